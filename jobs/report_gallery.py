"""Small pictures for a page, decoded in a process of their own: some of the files are hostile."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pyspark.sql import SparkSession

from models.images import DEFAULT_LIMITS
from models.isolation import IsolatedPreprocessor
from storage.hadoop import JAVA_ERRORS
from storage.paths import is_local
from storage.reading import BinaryReader
from udfs.sources import read_local

LONG_SIDE = 224  # pixels
SHORTEST_SIDE = 16
JPEG_QUALITY = 78
MOST_BYTES = 32 * 2**20  # a larger file isn't worth a thumbnail

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Photograph:
    """One photograph on the page.

    Attributes:
        name, folder: of its path, made harmless for display.
        picture: a data URI, or None with `missing` saying why.
        caption, score, reason, detail: of its row.
        width, height: of the picture in pixels.
    """

    name: str
    folder: str
    picture: str | None
    missing: str
    caption: str | None
    score: float | None
    reason: str | None
    detail: str | None
    width: int = LONG_SIDE
    height: int = LONG_SIDE


def make_photographs(spark: SparkSession, rows: Iterable[Row]) -> dict[str, Photograph]:
    """Return the photographs of these rows by path."""
    by_path = {row["path"]: row for row in rows}
    wanted = [path for path, row in by_path.items() if row["file_size_bytes"] <= MOST_BYTES]
    contents = dict(_contents(spark, sorted(wanted)))
    with IsolatedPreprocessor() as decoder:
        return {
            path: _photograph(row, contents.get(path), decoder) for path, row in by_path.items()
        }


def visible(text: str) -> str:
    """Return the text with what doesn't print, or turns the reading direction, written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _photograph(row: Row, content: bytes | None, decoder: IsolatedPreprocessor) -> Photograph:
    folder, _, name = row["path"].rpartition("/")
    pixels, missing = _decode(row, content, decoder)
    picture = None if pixels is None else _data_uri(pixels)
    return Photograph(
        visible(name),
        visible(folder),
        picture,
        missing,
        row["caption"],
        row["score"],
        row["reason"],
        None if row["detail"] is None else visible(row["detail"]),
        *(() if pixels is None else (pixels.shape[1], pixels.shape[0])),
    )


def _decode(
    row: Row, content: bytes | None, decoder: IsolatedPreprocessor
) -> tuple[npt.NDArray[np.uint8] | None, str]:
    """Return pixels uint8 [h, w, 3] in the photograph's own proportions, or why there are none."""
    if content is None:
        return None, "can't be read now"
    if row["image_id"] not in (None, hashlib.sha256(content).hexdigest()):
        return None, "has changed since"
    image = decoder.preprocess(content, size=LONG_SIDE, limits=DEFAULT_LIMITS)
    if image.pixels is None or not image.width or not image.height:
        return None, "can't be decoded"
    longest = max(image.width, image.height)
    size = [max(SHORTEST_SIDE, round(LONG_SIDE * s / longest)) for s in (image.width, image.height)]
    return np.asarray(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA), np.uint8), ""


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    return "data:image/jpeg;base64," + b64encode(data.tobytes()).decode()


def _contents(spark: SparkSession, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of the files that can be read."""
    remote = [path for path in paths if not is_local(path)]
    for path in sorted(set(paths) - set(remote)):
        data = read_local(path, MOST_BYTES).data
        if data is not None:
            yield path, data
    if not remote:
        return
    try:
        reader = BinaryReader(spark, remote, max_file_bytes=MOST_BYTES)
    except JAVA_ERRORS:  # the folder may not be listed, or its storage is down
        return
    for path in remote:
        try:
            for row in reader.frame([path], partitions=1).collect():
                yield path, bytes(row.content)
        except JAVA_ERRORS:  # denied, or its blocks are lost: the page says that it has no picture
            continue
