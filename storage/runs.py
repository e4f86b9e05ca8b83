"""The `runs` table: one row per run, from its begin to its end."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, get_args

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from conf.errors import LakeError
from conf.settings import RUN_ID_PATTERN
from storage.commits import retried
from storage.delta_log import commit_staged, partitions_touched, stage_rows
from storage.hadoop import reported_as
from storage.lake import Lake
from storage.schemas import RUNS
from storage.table_rows import Condition, Wanted, read_rows

RunState = Literal["running", "succeeded", "failed", "interrupted"]
WITHDRAWN = "(withdrawn)"
_ENDED = [state for state in get_args(RunState) if state != "running"]
_COLUMNS = to_arrow_schema(RUNS, timezone="UTC")


@dataclass(frozen=True)
class RunRecord:
    """One row of the `runs` table (`storage.schemas.RUNS`); times are UTC with a time zone.

    `run_id` takes up to 200 letters, digits and `. _ : + -`; ValueError otherwise.
    """

    run_id: str
    job: str
    arguments: str
    code_version: str
    model_version: str
    pipeline_version: str
    started_at: datetime
    ended_at: datetime | None = None
    state: RunState = "running"
    found: int = 0
    already_done: int = 0
    captioned: int = 0
    rejected: int = 0
    excluded: int = 0
    claimed_elsewhere: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    images_per_second: float | None = None
    batches: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not RUN_ID_PATTERN.fullmatch(self.run_id):
            raise ValueError(f"not a run id: {self.run_id!r}")


class Standing(NamedTuple):
    """The data files that hold a run's row as of a version of the table; None for no row."""

    version: int
    files: Any


class Beginning(NamedTuple):
    """What a run finds in the table before it writes its own row.

    Attributes:
        earlier: the row of an earlier process with the same run id.
        running: ids of all runs that have not ended, or died.
        standing: for `write_run`; None where there is an earlier row.
    """

    earlier: RunRecord | None
    running: frozenset[str]
    standing: Standing | None


def look_up(lake: Lake, run_id: str) -> Beginning:
    """Return what a run must know of the others before it begins.

    Raises:
        LakeError: the table can't be read.
    """
    version, found = _read(lake, {"run_id": [run_id]}, {"state": ["running"]})
    earlier = next((run for run in found if run.run_id == run_id), None)
    running = frozenset(run.run_id for run in found if run.state == "running")
    return Beginning(earlier, running, None if earlier else Standing(version, None))


def write_run(
    lake: Lake, record: RunRecord, *, standing: Standing | None = None
) -> Standing | None:
    """Write the run's row, in place of what it wrote before; other runs' rows stay untouched.

    With `standing`, of `look_up` or of the call before, the table isn't searched for the row to
    replace, which takes a new session a second. Where another process has touched the row since,
    it is searched for nevertheless.

    Returns:
        The `standing` of the next call; None where that must search.

    Raises:
        LakeError: the table can't be written.
    """
    if standing is not None:
        with reported_as(LakeError, f"Can't write {lake.runs_uri}"):
            after = _replace(lake, record, standing)
        if after is not None:
            return after
    _overwrite(lake, [record])
    return None


def find_run(lake: Lake, run_id: str) -> RunRecord | None:
    """Return the run's row, or None."""
    _, found = _read(lake, {"run_id": [run_id]})
    return found[0] if found else None


def succeeded_runs(lake: Lake, *, pipeline_version: str) -> list[RunRecord]:
    """Return the runs at a pipeline version that succeeded and captioned something."""
    succeeded: Condition = {"pipeline_version": [pipeline_version], "state": ["succeeded"]}
    return [run for run in _read(lake, succeeded)[1] if (run.images_per_second or 0.0) > 0.0]


def list_runs(lake: Lake, *, job: str) -> list[RunRecord]:
    """Return a job's runs, the oldest first."""
    _, found = _read(lake, {"job": [job]})
    return sorted(found, key=lambda run: (run.started_at, run.run_id))


def mark_interrupted(lake: Lake, dead: Collection[str]) -> list[str]:
    """Mark those of the dead runs that are `running` still as `interrupted`; return their ids."""
    with reported_as(LakeError, f"Can't write {lake.runs_uri}"):
        return retried(lambda: _mark_interrupted(lake, dead))


def _mark_interrupted(lake: Lake, dead: Collection[str]) -> list[str]:
    _, running = _read(lake, {"run_id": dead, "state": ["running"]})
    now = datetime.now(UTC)
    if running:
        _save(lake, [replace(run, state="interrupted", ended_at=now) for run in running])
    return sorted(record.run_id for record in running)


def hide_in_arguments(lake: Lake, paths: Collection[str]) -> None:
    """Take the names of withdrawn files out of the arguments of the ended runs that named them.

    The row of a run under way is its own to write; the next request of that kind reaches it.

    Raises:
        LakeError: the table can't be read or written.
    """
    names = {path.rpartition("/")[2] for path in paths}
    _, records = _read(lake, {"state": _ENDED})
    told = [(record, _without_names(record.arguments, names)) for record in records]
    changed = [replace(run, arguments=hidden) for run, hidden in told if hidden != run.arguments]
    if changed:
        _overwrite(lake, changed)


def _without_names(arguments: str, names: Collection[str]) -> str:
    """Return the JSON with `input` and `include` blanked where they name one of the files."""
    values = json.loads(arguments)
    hidden = {
        key: WITHDRAWN
        for key in ("input", "include")
        if str(values.get(key) or "").rpartition("/")[2] in names
    }
    return json.dumps(values | hidden) if hidden else arguments


def _read(lake: Lake, *alternatives: Condition) -> tuple[int, list[RunRecord]]:
    """Return the table's version and the rows that meet one of the conditions."""
    version, rows = read_rows(lake.spark, lake.runs_uri, Wanted(_COLUMNS, alternatives))
    return version, [_from_row(row) for row in rows.to_pylist()]


def _from_row(row: Mapping[str, Any]) -> RunRecord:
    batches = tuple(row["batches"] or ())
    maps = {name: dict(row[name] or ()) for name in ("reasons", "stage_seconds")}
    return RunRecord(**dict(row) | maps | {"batches": batches})


def _replace(lake: Lake, record: RunRecord, standing: Standing) -> Standing | None:
    """Commit the row in place of the files that held it, unless it was touched since."""
    spark, uri = lake.spark, lake.runs_uri

    def may_follow(latest: int) -> bool:
        versions = range(standing.version + 1, latest + 1)
        touched = (partitions_touched(spark, uri, one, column="run_id") for one in versions)
        return all(runs is not None and record.run_id not in runs for runs in touched)

    staged = stage_rows(spark, uri, _arrow([record]), RUNS)
    version = retried(
        lambda: commit_staged(spark, uri, staged, may_follow=may_follow, instead_of=standing.files)
    )
    return None if version is None else Standing(version, staged)


def _overwrite(lake: Lake, records: Sequence[RunRecord]) -> None:
    with reported_as(LakeError, f"Can't write {lake.runs_uri}"):
        retried(lambda: _save(lake, records))


def _save(lake: Lake, records: Sequence[RunRecord]) -> None:
    """Replace exactly the partitions of these runs."""
    frame = lake.spark.createDataFrame(_arrow(records), schema=RUNS).coalesce(1)
    writer = frame.write.format("delta").mode("overwrite")
    writer.option("partitionOverwriteMode", "dynamic").save(lake.runs_uri)


def _arrow(records: Sequence[RunRecord]) -> pa.Table:
    """Return the table's rows; from Python objects, Spark would start a Python worker for them."""
    rows = [asdict(record) for record in records]
    for row in rows:
        for name in ("reasons", "stage_seconds"):
            row[name] = [*row[name].items()]
    return pa.Table.from_pylist(rows, schema=_COLUMNS)
