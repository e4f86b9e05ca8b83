"""What a training leaves for people: lines while it runs, and an MLflow run to compare it by."""

from __future__ import annotations

import html
import logging
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from conf.errors import EnvironmentFault
from models.registry import choose_tracking_uri
from models.training.reports import EpochReport, StepReport
from models.training.shards import Shards

EXPERIMENT = "train_captioner"
RUN_ID_FILE = "mlflow-run-id.txt"
SECONDS_BETWEEN_LINES = 10.0
SAMPLES = 24
log = logging.getLogger("captionlake")


class TrainingLog:
    """`models.training.trainer.Listener` that writes log lines and MLflow metrics."""

    def __init__(self, dev: Shards, work: Path) -> None:
        self._dev, self._work = dev, work
        self._last_line = 0.0

    def on_step(self, report: StepReport) -> None:
        """Write a line now and then, and the loss curve."""
        _log_metrics({"loss": report.loss, "learning_rate": report.rate}, report.global_step)
        if time.monotonic() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.monotonic()
        log.info(
            "%s: step %d of %d, loss %.3f, rate %.1e, %d min left in this phase",
            report.phase, report.step, report.total_steps, report.loss, report.rate,
            round(report.seconds_left / 60),
        )  # fmt: skip

    def on_epoch(self, report: EpochReport) -> None:
        """Write dev's figures, and sample photographs with what is said of them now."""
        figures = {f"dev_{name}": value for name, value in report.figures.items()}
        _log_metrics(figures, report.global_step)
        log.info(
            "%s: epoch %d, dev CIDEr %.3f, BLEU-4 %.3f%s",
            report.phase, report.epoch, report.figures["cider"], report.figures["bleu_4"],
            ", the best so far" if report.is_best else "",
        )  # fmt: skip
        page = self._work / "samples.html"
        page.write_text(samples_page(self._dev, report.captions), encoding="utf-8")
        log_artifact(page)


def samples_page(dev: Shards, captions: list[str]) -> str:
    """An HTML page of some dev photographs, what is said of them and what people said."""
    rows = np.linspace(0, len(dev) - 1, min(SAMPLES, len(dev))).astype(int)
    figures = [
        f'<figure><img src="{_data_uri(pixels)}"><figcaption><b>{html.escape(captions[row])}</b>'
        f"<br>{html.escape(dev.captions[row][0])}</figcaption></figure>"
        for row, pixels in zip(rows, dev.pixels.take(rows), strict=True)
    ]
    style = "figure{display:inline-block;width:224px;vertical-align:top;font:13px sans-serif}"
    return f"<!doctype html><meta charset=utf-8><style>{style}</style>{''.join(figures)}\n"


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return "data:image/jpeg;base64," + b64encode(data.tobytes()).decode()


@contextmanager
def mlflow_run(tracking_uri: str | None, work: Path, params: Mapping[str, Any]) -> Iterator[str]:
    """Open the MLflow run of this training, the same one again after a kill; yield its id."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = choose_tracking_uri(tracking_uri)
    kept = work / RUN_ID_FILE
    run_id = kept.read_text(encoding="utf-8") if kept.exists() else None
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(EXPERIMENT)
        run = mlflow.start_run(run_id=run_id)
        if run_id is None:
            mlflow.log_params({key: str(value)[:500] for key, value in params.items()})
            kept.write_text(run.info.run_id, encoding="utf-8")
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EnvironmentFault(
            f"The tracking store {uri} can't be used: {reason}.", remedy="Check --tracking-uri."
        ) from error
    with run:
        yield run.info.run_id


def _log_metrics(metrics: Mapping[str, float], step: int) -> None:
    import mlflow

    mlflow.log_metrics(dict(metrics), step=step)


def log_artifact(path: Path) -> None:
    """Copy a file into the MLflow run."""
    import mlflow

    mlflow.log_artifact(str(path))
