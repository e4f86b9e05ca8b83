"""The `runs` table: one row per run, from its begin to its end."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from conf.errors import LakeError
from conf.settings import RUN_ID_PATTERN
from storage.commits import retried
from storage.hadoop import reported_as
from storage.lake import Lake
from storage.schemas import RUNS

RunState = Literal["running", "succeeded", "failed", "interrupted"]
WITHDRAWN = "(withdrawn)"


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


def write_run(lake: Lake, record: RunRecord) -> None:
    """Write the run's row, in place of what it wrote before; other runs' rows stay untouched.

    Raises:
        LakeError: the table can't be written.
    """
    _overwrite(lake, [record])


def find_run(lake: Lake, run_id: str) -> RunRecord | None:
    """Return the run's row, or None; lets an id that already succeeded pass at once."""
    found = _read(lake, lake.runs().where(F.col("run_id") == F.lit(run_id)))
    return found[0] if found else None


def succeeded_runs(lake: Lake, *, pipeline_version: str) -> list[RunRecord]:
    """Return the runs at a pipeline version that succeeded and captioned something."""
    rows = lake.runs().where(
        (F.col("pipeline_version") == F.lit(pipeline_version))
        & (F.col("state") == F.lit("succeeded"))
        & (F.col("images_per_second") > F.lit(0.0))
    )
    return _read(lake, rows)


def list_runs(lake: Lake, *, job: str) -> list[RunRecord]:
    """Return a job's runs, the oldest first."""
    rows = _read(lake, lake.runs().where(F.col("job") == F.lit(job)))
    return sorted(rows, key=lambda run: (run.started_at, run.run_id))


def mark_interrupted(lake: Lake, *, alive: Collection[str]) -> list[str]:
    """Mark `running` rows whose run is not alive as `interrupted`; return their ids."""
    running = _read(lake, lake.runs().where(F.col("state") == F.lit("running")))
    dead = [record for record in running if record.run_id not in alive]
    now = datetime.now(UTC)
    if dead:
        _overwrite(lake, [replace(run, state="interrupted", ended_at=now) for run in dead])
    return sorted(record.run_id for record in dead)


def hide_in_arguments(lake: Lake, paths: Collection[str]) -> None:
    """Take the names of withdrawn files out of the arguments of the runs that named them.

    Raises:
        LakeError: the table can't be read or written.
    """
    names = {path.rpartition("/")[2] for path in paths}
    records = _read(lake, lake.runs())
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


def _read(lake: Lake, rows: DataFrame) -> list[RunRecord]:
    with reported_as(LakeError, f"Can't read {lake.runs_uri}"):
        # As numbers, since a Python timestamp would come back in the machine's time zone.
        return [_from_row(row) for row in _with_seconds(rows).collect()]


def _with_seconds(rows: DataFrame) -> DataFrame:
    return rows.select(
        *[
            F.unix_micros(name).alias(name) if name in ("started_at", "ended_at") else F.col(name)
            for name in RUNS.names
        ]
    )


def _from_row(row: Row) -> RunRecord:
    values = row.asDict() | {"batches": tuple(row["batches"] or ())}
    for name in ("started_at", "ended_at"):
        if values[name] is not None:
            values[name] = datetime.fromtimestamp(values[name] / 1e6, UTC)
    return RunRecord(**values)


def _overwrite(lake: Lake, records: Sequence[RunRecord]) -> None:
    """Replace exactly the partitions of these runs."""
    rows = [[asdict(record)[name] for name in RUNS.names] for record in records]
    with reported_as(LakeError, f"Can't write {lake.runs_uri}"):
        frame = lake.spark.createDataFrame(rows, schema=RUNS).coalesce(1)
        writer = frame.write.format("delta").option("partitionOverwriteMode", "dynamic")
        retried(lambda: writer.mode("overwrite").save(lake.runs_uri))
