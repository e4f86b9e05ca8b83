"""What an evaluation tells: a table and an MLflow run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from conf.evaluation import EvaluateSettings
from jobs.cli import redact, to_keep
from models.metrics import Scored
from models.package import ModelPackage
from models.tracking import choose_tracking_uri, reason_of, store_failures, use_store

EXPERIMENT = "evaluate_captioner"
TOKENISATION = "Words split by the scorers' own PTB tokenizer (Stanford CoreNLP 3.4.1)."
NO_SPICE = "SPICE is left out: its Java part needs a download of its own."
NO_METEOR = "METEOR is left out: its Java part didn't run here."
SHOWN = 20
T = TypeVar("T")
log = logging.getLogger("captionlake")


@dataclass(frozen=True)
class Evaluated:
    """Captions beside references, and all that is said of them.

    Attributes:
        paths, captions, references: of each captioned photograph, in one order.
        scored: their figures.
        rejected: reason by path of the photographs that couldn't be captioned.
        without_image, without_caption, named_in_vain: what had no partner.
        images_per_second: reading and decoding included.
    """

    paths: list[str]
    captions: list[str]
    references: list[list[str]]
    scored: Scored
    rejected: dict[str, str]
    without_image: list[str]
    without_caption: int
    named_in_vain: list[str]
    images_per_second: float

    def figures(self) -> dict[str, float]:
        """Every figure by name."""
        counts = {"rejected": len(self.rejected), "images_per_second": self.images_per_second}
        return self.scored.figures.as_dict() | counts

    def notes(self) -> list[str]:
        """What a reader must know to compare the figures with others."""
        no_meteor = [NO_METEOR] if self.scored.figures.meteor is None else []
        return [TOKENISATION, *no_meteor, NO_SPICE]


def print_evaluation(
    evaluated: Evaluated, settings: EvaluateSettings, package: ModelPackage
) -> None:
    """Show the figures on the terminal, and what was left out."""
    console = Console(width=100)
    console.print(_title(settings, package), markup=False)
    table = Table(show_header=False)
    for name, value in evaluated.figures().items():
        whole = float(value).is_integer() and name not in ("cider",)
        table.add_row(name, f"{value:.0f}" if whole else f"{value:.4f}")
    console.print(table)
    for note in evaluated.notes():
        console.print(note)
    broken = [f"{path} ({reason})" for path, reason in sorted(evaluated.rejected.items())]
    _print_left_out(console, broken, "photographs that couldn't be captioned")
    _print_left_out(console, evaluated.without_image, "names with captions, without a photograph")
    _print_left_out(console, evaluated.named_in_vain, "names of --names without captions")
    if evaluated.without_caption:
        console.print(f"left out: {evaluated.without_caption} photographs without captions")


def _print_left_out(console: Console, names: Sequence[str], what: str) -> None:
    if not names:
        return
    console.print(f"left out: {len(names)} {what}")
    for name in names[:SHOWN]:
        console.print(f"  {name}", markup=False)
    if len(names) > SHOWN:
        console.print(f"  and {len(names) - SHOWN} more")


def log_evaluation(
    evaluated: Evaluated, settings: EvaluateSettings, package: ModelPackage
) -> str | None:
    """Leave an MLflow run with settings and figures; returns its id, None where none was kept."""
    import mlflow

    def write_run() -> str:
        use_store(choose_tracking_uri(settings.tracking_uri))
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run() as run:
            lineage = {"model_version": package.version, "tokenisation": TOKENISATION}
            mlflow.log_params(to_keep(settings, without=["tracking_uri"]) | lineage)
            mlflow.log_metrics(evaluated.figures())
            return str(run.info.run_id)

    return _kept(write_run, "run of this evaluation")


def log_page(page: Path, *, run_id: str | None) -> None:
    """Copy the page into the MLflow run, if there is one."""
    import mlflow

    if run_id is not None:
        _kept(lambda: mlflow.log_artifact(str(page), run_id=run_id), "page of this evaluation")


def _kept(write: Callable[[], T], what: str) -> T | None:
    """What the store answers; one that fails costs a warning, since the figures stand already."""
    try:
        return write()
    except store_failures() as error:
        log.warning("MLflow keeps no %s: %s", what, redact(reason_of(error)))
        return None


def _title(settings: EvaluateSettings, package: ModelPackage) -> str:
    return (
        f"{package.config.name} {package.version[:12]}: {settings.runtime}, {settings.precision}, "
        f"beam {settings.beam_width}"
    )
