"""Where MLflow keeps runs and models, and what its stores raise; imports MLflow only when used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conf.errors import ModelError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"


def choose_tracking_uri(tracking_uri: str | None) -> str:
    """What was asked for, else MLFLOW_TRACKING_URI, else an SQLite file right here."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def store_failures() -> tuple[type[Exception], ...]:
    """What a store raises: MLflow's own errors, its database's, those of files and network."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def reason_of(error: BaseException) -> str:
    """The first line of what a store raised, to stand inside a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def use_store(uri: str) -> None:
    """Let MLflow's own functions write there; a server that is away costs seconds, not minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    mlflow.set_tracking_uri(uri)


@contextmanager
def open_registry(tracking_uri: str | None) -> Iterator[MlflowClient]:
    """A client whose failures are one line; the process's own MLflow settings come back after."""
    import mlflow

    uri = choose_tracking_uri(tracking_uri)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    use_store(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield mlflow.MlflowClient(uri, uri)
    except store_failures() as error:
        raise ModelError(
            f"The model registry {uri} failed: {reason_of(error)}.",
            remedy="Check --tracking-uri and the model's name, or give a package folder.",
        ) from error
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
