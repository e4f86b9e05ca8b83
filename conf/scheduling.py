"""Settings of the small commands that a scheduler asks between the jobs; none starts Spark."""

from __future__ import annotations

from pydantic import Field

from conf.settings import RunId, Settings


class BatchSettings(Settings):
    """Settings of `check_batch`."""

    input: str | None = Field(None, description="folder of the batch, as caption_images takes it")


class RunSettings(Settings):
    """Settings of `check_run`."""

    lake: str | None = Field(None, description="folder of the Delta tables")
    run_id: RunId | None = Field(None, description="the run that is judged")
