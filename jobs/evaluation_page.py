"""The page of an evaluation: its best, its worst and random photographs."""

from __future__ import annotations

import html
import os
import random
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
from pyspark.sql import SparkSession

from conf.errors import InputError, UsageError
from conf.filesystem import local_path
from jobs.evaluation_report import Evaluated
from models.images import preprocess_image
from storage.paths import is_local
from storage.reading import BinaryReader

THUMBNAIL_PIXELS = 224
_STYLE = (
    "body{font:14px sans-serif;margin:2em}figure{display:inline-block;width:240px;margin:8px;"
    "vertical-align:top}figcaption small{color:#555}td{padding-right:2em}"
)


def refuse_page(path: Path) -> None:
    """Raise UsageError where no page can be written, before anything is computed for it."""
    if path.is_dir():
        raise UsageError(f"--page {path} is a folder.", remedy="Give the page's file name.")
    if not path.parent.is_dir():
        raise UsageError(f"--page {path}: there is no folder {path.parent}.", remedy="Make it.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--page {path} can't be written.", remedy="Choose another place.")


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


def _figures_table(evaluated: Evaluated) -> str:
    rows = "".join(f"<tr><td>{name}<td>{value:.4f}" for name, value in evaluated.figures().items())
    notes = html.escape(" ".join(evaluated.notes()))
    return f"<h1>Evaluation</h1><table>{rows}</table><p>{notes}</p>"


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


def _contents(spark: SparkSession, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if is_local(paths[0]):
        for path in paths:
            with suppress(OSError):
                yield path, Path(local_path(path)).read_bytes()
        return
    frame = BinaryReader(spark, list(paths)).frame(paths, partitions=2)
    for row in frame.toLocalIterator():
        yield row.path, bytes(row.content)
