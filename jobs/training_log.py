"""What a training tells while it runs: lines, curves in MLflow, and a page of samples."""

from __future__ import annotations

import html
import logging
import time
from base64 import b64encode
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from jobs.training_run import Records, mlflow_run
from models.training.reports import EpochReport, StepReport
from models.training.shards import Shards

__all__ = ["TrainingLog", "log_artifact", "mlflow_run", "samples_page"]

SECONDS_BETWEEN_LINES = 10.0
# Each call to a server that is away waits for it: between steps that must stay rare.
SECONDS_AFTER_FAILURE = 300.0
SAMPLES = 24
log = logging.getLogger("captionlake")


class TrainingLog:
    """`models.training.trainer.Listener` that writes log lines and MLflow metrics."""

    def __init__(self, dev: Shards, work: Path) -> None:
        self._dev, self._work = dev, work
        self._last_line = 0.0
        self._records, self._curve_from = Records(), 0.0

    def on_step(self, report: StepReport) -> None:
        """Write a line now and then, and the loss curve."""
        self._draw_curve(report)
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
        self._records.log_metrics(figures, step=report.global_step)
        log.info(
            "%s: epoch %d, dev CIDEr %.3f, BLEU-4 %.3f%s",
            report.phase, report.epoch, report.figures["cider"], report.figures["bleu_4"],
            ", the best so far" if report.is_best else "",
        )  # fmt: skip
        page = self._work / "samples.html"
        page.write_text(samples_page(self._dev, report.captions), encoding="utf-8")
        self._records.log_artifact(page)

    def _draw_curve(self, report: StepReport) -> None:
        if time.monotonic() < self._curve_from:
            return
        point = {"loss": report.loss, "learning_rate": report.rate}
        if not self._records.log_metrics(point, step=report.global_step):
            self._curve_from = time.monotonic() + SECONDS_AFTER_FAILURE


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


def log_artifact(path: Path) -> None:
    """Copy a file into the MLflow run; a store that fails costs a warning."""
    Records().log_artifact(path)
