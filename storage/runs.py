"""The `runs` table: one row per run, from its begin to its end."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.hadoop import reported_as
from storage.lake import Lake
from storage.schemas import RUNS

RunState = Literal["running", "succeeded", "failed", "interrupted"]
_RUN_ID = re.compile(r"[A-Za-z0-9._:+-]{1,200}")


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
    batches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _RUN_ID.fullmatch(self.run_id):
            raise ValueError(f"not a run id: {self.run_id!r}")


def write_run(lake: Lake, record: RunRecord) -> None:
    """Write the run's row, in place of what it wrote before; other runs' rows stay untouched.

    Raises:
        LakeError: the table can't be written.
    """
    with reported_as(LakeError, f"Can't write to {lake.runs_uri}", remedy="Check --lake."):
        (
            lake.spark.createDataFrame([_as_row(record)], RUNS)
            .coalesce(1)
            .write.format("delta")
            .mode("overwrite")
            # The run id is the partition and, checked above, has no character of SQL's own.
            .option("replaceWhere", f"run_id = '{record.run_id}'")
            .save(lake.runs_uri)
        )


def find_run(lake: Lake, run_id: str) -> RunRecord | None:
    """Return the run's row, or None; lets an id that already succeeded pass at once."""
    with reported_as(LakeError, f"Can't read {lake.runs_uri}", remedy="Check --lake."):
        row = lake.runs().where(F.col("run_id") == F.lit(run_id)).first()
    return None if row is None else _from_row(row)


def mark_interrupted(lake: Lake, *, alive: Collection[str]) -> list[str]:
    """Mark `running` rows whose run is not alive as `interrupted`; return their ids."""
    with reported_as(LakeError, f"Can't read {lake.runs_uri}", remedy="Check --lake."):
        stale = [_from_row(row) for row in _running(lake).collect() if row.run_id not in alive]
    for record in stale:
        write_run(lake, replace(record, state="interrupted", ended_at=datetime.now(tz=UTC)))
    return [record.run_id for record in stale]


def _running(lake: Lake) -> DataFrame:
    return lake.runs().where(F.col("state") == F.lit("running"))


def _as_row(record: RunRecord) -> tuple[Any, ...]:
    values = asdict(record)
    return tuple(_plain(values[name]) for name in RUNS.names)


def _plain(value: Any) -> Any:
    """Spark takes lists and dicts, not their abstract forms."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple | list) else value


def _from_row(row: Row) -> RunRecord:
    values = row.asDict() | {"batches": tuple(row.batches)}
    for name in ("started_at", "ended_at"):
        if values[name] is not None:  # Spark hands out naive times of the driver's time zone
            values[name] = values[name].astimezone(UTC)
    return RunRecord(**{name: values[name] for name in RUNS.names})
