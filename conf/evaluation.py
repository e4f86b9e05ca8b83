"""Settings of the jobs that measure models and choose between them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.settings import Settings, WorkerSettings


class EvaluateSettings(WorkerSettings):
    """Settings of `evaluate_captioner`."""

    images: str | None = Field(
        None, description="folder or glob of photographs on any Hadoop filesystem"
    )
    captions: str | None = Field(
        None, description="reference captions: one `file<TAB>caption` per line, no header"
    )
    names: str | None = Field(
        None, description="file of names to evaluate on (default: all that have captions)"
    )
    page: str = Field(
        "evaluation.html", description="local page of the best, worst and random photographs"
    )
    page_photographs: int = Field(
        12, ge=1, le=200, description="photographs of each kind on the page"
    )


class ManageSettings(Settings):
    """Settings of `manage_models`."""

    action: Literal["list", "promote", "rollback"] = Field(
        "list", description="show the versions, make one champion, or go back to the one before"
    )
    version: int | None = Field(None, ge=1, description="number of the version to promote")
    name: str = Field("captioner", description="registered name of the model")
    tracking_uri: str | None = Field(
        None, description="MLflow server or store; default MLFLOW_TRACKING_URI, else mlflow.db here"
    )
