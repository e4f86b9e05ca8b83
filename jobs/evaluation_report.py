"""What an evaluation tells: a table, an MLflow run, and a page of photographs."""

from __future__ import annotations

import html
import logging
import random
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from conf.errors import InputError
from conf.evaluation import EvaluateSettings
from conf.filesystem import local_path
from jobs.cli import to_keep
from models.images import preprocess_image
from models.metrics import Scored
from models.package import ModelPackage
from models.registry import choose_tracking_uri
from storage.paths import is_local
from storage.reading import BinaryReader

EXPERIMENT = "evaluate_captioner"
TOKENISATION = "Words split by the scorers' own PTB tokenizer (Stanford CoreNLP 3.4.1)."
THUMBNAIL_PIXELS = 224
_STYLE = (
    "body{font:14px sans-serif;margin:2em}figure{display:inline-block;width:240px;margin:8px;"
    "vertical-align:top}figcaption small{color:#555}td{padding-right:2em}"
)
log = logging.getLogger("captionlake")


@dataclass(frozen=True)
class Evaluated:
    """Captions beside references, and all that is said of them.

    Attributes:
        paths, captions, references: of each captioned photograph, in one order.
        scored: their figures.
        rejected: reason by path of the photographs that couldn't be captioned.
        without_image, without_caption: what had no partner.
        images_per_second: reading and decoding included.
    """

    paths: list[str]
    captions: list[str]
    references: list[list[str]]
    scored: Scored
    rejected: dict[str, str]
    without_image: list[str]
    without_caption: int
    images_per_second: float

    def figures(self) -> dict[str, float]:
        """Every figure by name."""
        counts = {"rejected": len(self.rejected), "images_per_second": self.images_per_second}
        return self.scored.figures.as_dict() | counts


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
    console.print(TOKENISATION)
    for path, reason in sorted(evaluated.rejected.items()):
        console.print(f"left out: {path} ({reason})", markup=False)
    for name in evaluated.without_image:
        console.print(f"left out: {name} (captions without a photograph)", markup=False)
    if evaluated.without_caption:
        console.print(f"left out: {evaluated.without_caption} photographs without captions")
    console.print(f"Page: {settings.page}", markup=False)


def log_evaluation(evaluated: Evaluated, settings: EvaluateSettings, package: ModelPackage) -> None:
    """Leave an MLflow run with settings, figures and the page."""
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(choose_tracking_uri(settings.tracking_uri))
    try:
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run():
            lineage = {"model_version": package.version, "tokenisation": TOKENISATION}
            mlflow.log_params(to_keep(settings, without=["tracking_uri"]) | lineage)
            mlflow.log_metrics(evaluated.figures())
            mlflow.log_artifact(settings.page)
    except MlflowException as error:
        log.warning("MLflow keeps no run of this evaluation: %s", str(error).splitlines()[0])


def write_page(path: Path, evaluated: Evaluated, *, count: int, spark: SparkSession) -> None:
    """Write the best, the worst and random photographs with captions and references."""
    scores = evaluated.scored.cider_by_image
    by_score = sorted(range(len(scores)), key=lambda row: -scores[row])
    chosen = random.Random(0).sample(by_score, min(count, len(by_score)))  # noqa: S311
    groups = {"Best": by_score[:count], "Worst": by_score[::-1][:count], "Random": chosen}
    rows = {row for group in groups.values() for row in group}
    pictures = _thumbnails(spark, [evaluated.paths[row] for row in sorted(rows)])
    body = "".join(
        f"<h2>{title}</h2>" + "".join(_figure(evaluated, row, pictures) for row in group)
        for title, group in groups.items()
    )
    head = f"<!doctype html><meta charset=utf-8><title>Evaluation</title><style>{_STYLE}</style>"
    try:
        path.write_text(f"{head}{_figures_table(evaluated)}{body}\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"Can't write {path} ({error.strerror}).", remedy="Check --page."
        ) from error


def _title(settings: EvaluateSettings, package: ModelPackage) -> str:
    return (
        f"{package.config.name} {package.version[:12]}: {settings.runtime}, {settings.precision}, "
        f"beam {settings.beam_width}"
    )


def _figures_table(evaluated: Evaluated) -> str:
    rows = "".join(f"<tr><td>{name}<td>{value:.4f}" for name, value in evaluated.figures().items())
    return f"<h1>Evaluation</h1><table>{rows}</table><p>{TOKENISATION}</p>"


def _figure(evaluated: Evaluated, row: int, pictures: dict[str, str]) -> str:
    path = evaluated.paths[row]
    known = "<br>".join(html.escape(text) for text in evaluated.references[row])
    return (
        f'<figure><img src="{pictures.get(path, "")}" alt="">'
        f"<figcaption><b>{html.escape(evaluated.captions[row])}</b> "
        f"({evaluated.scored.cider_by_image[row]:.2f})<br><small>{known}<br>"
        f"{html.escape(path.rpartition('/')[2])}</small></figcaption></figure>"
    )


def _thumbnails(spark: SparkSession, paths: Sequence[str]) -> dict[str, str]:
    """Data URIs of small JPEGs by path; a photograph that has gone since has none."""
    found = {}
    for path, content in _contents(spark, paths):
        pixels = preprocess_image(content, size=THUMBNAIL_PIXELS).pixels
        if pixels is not None:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            found[path] = "data:image/jpeg;base64," + b64encode(data.tobytes()).decode()
    return found


def _contents(spark: SparkSession, paths: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    if is_local(paths[0]):
        return [(path, Path(local_path(path)).read_bytes()) for path in paths]
    frame = BinaryReader(spark, list(paths)).frame(paths, partitions=2)
    return [(row.path, bytes(row.content)) for row in frame.toLocalIterator()]
