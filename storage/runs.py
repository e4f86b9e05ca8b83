"""The `runs` table: one row per run, from its begin to its end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from storage.lake import Lake

RunState = Literal["running", "succeeded", "failed", "interrupted"]


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


def write_run(lake: Lake, record: RunRecord) -> None:
    """Write the run's row, in place of what it wrote before; other runs' rows stay untouched.

    Raises:
        LakeError: the table can't be written.
    """
    raise NotImplementedError


def find_run(lake: Lake, run_id: str) -> RunRecord | None:
    """Return the run's row, or None; lets an id that already succeeded pass at once."""
    raise NotImplementedError


def mark_interrupted(lake: Lake, *, alive: Collection[str]) -> list[str]:
    """Mark `running` rows whose run is not alive as `interrupted`; return their ids."""
    raise NotImplementedError
