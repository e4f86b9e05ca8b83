"""Settings of `report_run`."""

from __future__ import annotations

from pydantic import Field

from conf.settings import Settings


class ReportSettings(Settings):
    """Settings of `report_run`."""

    lake: str | None = Field(None, description="folder of the Delta tables")
    run_id: str | None = Field(None, description="the run to report on")
    tracking_uri: str | None = Field(
        None,
        description="MLflow server or store that gets the figures, and the page without "
        "photographs, paths and captions; default MLFLOW_TRACKING_URI, else none",
    )
    photographs: int = Field(12, ge=1, le=100, description="photographs of each kind on the page")
