"""The MLflow run of a training: opened or reopened, written to, and closed.

A store that can't be used at the start is an error, since nobody has waited for anything yet. Later
it costs warnings: hours of training must not end because of their records.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.errors import EnvironmentFault
from jobs.cli import redact
from jobs.training_folders import TRAINING
from models.tracking import choose_tracking_uri, reason_of, store_failures, use_store

if TYPE_CHECKING:
    from mlflow.entities import Run

EXPERIMENT = "train_captioner"
RUN_ID_FILE = "mlflow-run-id.txt"
PARAMETER_LETTERS = 500
# Parameters that a run must share with a training to be its run.
DATA_PARAMETERS = ("train_fingerprint", "dev_fingerprint")
log = logging.getLogger("captionlake")


class Records:
    """Writes into the run that is open, and warns of the first failure alone."""

    def __init__(self) -> None:
        self._is_told = False

    def write(self, write_one: Callable[[], object]) -> bool:
        """Call what writes; returns whether the store took it."""
        try:
            write_one()
        except store_failures() as error:
            if not self._is_told:
                reason = redact(reason_of(error))
                log.warning("MLflow misses records of this training, which goes on: %s", reason)
            self._is_told = True
            return False
        return True

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> bool:
        """Add points to curves; returns whether the store took them."""
        import mlflow

        return self.write(lambda: mlflow.log_metrics(dict(metrics), step=step))

    def log_artifact(self, path: Path) -> bool:
        """Copy a file into the run; returns whether the store took it."""
        import mlflow

        return self.write(lambda: mlflow.log_artifact(str(path)))


@contextmanager
def mlflow_run(tracking_uri: str | None, work: Path, params: Mapping[str, Any]) -> Iterator[str]:
    """Open the MLflow run of this training, the same one again after a kill; yield its id."""
    uri = choose_tracking_uri(tracking_uri)
    try:
        run_id = _open_run(uri, work, params)
    except store_failures() as error:
        raise EnvironmentFault(
            f"The tracking store {uri} can't be used: {reason_of(error)}.",
            remedy="Check --tracking-uri.",
        ) from error
    try:
        yield run_id
    except BaseException:
        _close_run("FAILED")
        raise
    _close_run("FINISHED")


def _open_run(uri: str, work: Path, params: Mapping[str, Any]) -> str:
    import mlflow

    use_store(uri)
    mlflow.set_experiment(EXPERIMENT)
    # Beside the checkpoints, so that it goes when they do: without them this is another training.
    kept = work / TRAINING / RUN_ID_FILE
    texts = {key: str(value)[:PARAMETER_LETTERS] for key, value in params.items()}
    if (known := _find_run(kept)) is not None and _is_continued(known, texts):
        return str(mlflow.start_run(run_id=known.info.run_id).info.run_id)
    run_id = str(mlflow.start_run().info.run_id)
    mlflow.log_params(texts)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(run_id, encoding="utf-8")
    return run_id


def _find_run(kept: Path) -> Run | None:
    """The run that this folder's training began, if this store has it."""
    import mlflow
    from mlflow.exceptions import MlflowException

    if not kept.is_file():
        return None
    try:
        return mlflow.MlflowClient().get_run(kept.read_text(encoding="utf-8").strip())
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None  # deleted for good, or of another store
        raise


def _is_continued(run: Run, params: Mapping[str, str]) -> bool:
    """Whether a run is of a training that was broken off, on the same photographs."""
    is_open = run.info.lifecycle_stage == "active" and run.info.status != "FINISHED"
    return is_open and all(run.data.params.get(name) == params[name] for name in DATA_PARAMETERS)


def _close_run(status: str) -> None:
    import mlflow

    Records().write(lambda: mlflow.end_run(status))
