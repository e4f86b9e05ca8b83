"""The encoder's features of every image, computed once and kept as half floats on disk.

Shapes: n rows of a part · B images · N grid cells · C channels.
View 0 is the photograph as served, views 1, 2, … are augmented copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.training.augment import augment_batch
from models.training.shards import MappedRows, Shards
from models.training.whole import written_whole

Encode = Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]

BATCH = 64


def view_seeds(rows: npt.NDArray[np.int64], *, seed: int, view: int) -> npt.NDArray[np.int64]:
    """Seeds [B] of the augmented copies of these rows in this view."""
    return np.asarray((seed * 1009 + view) * 10_000_019 + rows, np.int64)


def write_features(
    encode: Encode, shards: Shards, directory: Path, *, views: int, seed: int
) -> list[MappedRows]:
    """Features [rows, N, C] float16 of each view; parts that are there already are kept."""
    return [
        _write_view(encode, shards, directory / f"view-{view}", view=view, seed=seed)
        for view in range(views)
    ]


def _write_view(
    encode: Encode, shards: Shards, directory: Path, *, view: int, seed: int
) -> MappedRows:
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, first in enumerate(range(0, len(shards), 16 * BATCH)):
        path = directory / f"part-{number:05d}.npy"
        paths.append(path)
        if not path.exists():
            rows = np.arange(first, min(first + 16 * BATCH, len(shards)))
            features = np.concatenate([*encode_rows(encode, shards, rows, view=view, seed=seed)])
            with written_whole(path) as partial:
                np.save(partial, features)
    return MappedRows(paths)


def encode_rows(
    encode: Encode, shards: Shards, rows: npt.NDArray[np.int64], *, view: int = 0, seed: int = 0
) -> Iterator[npt.NDArray[np.float16]]:
    """Features [B, N, C] float16 of the images ``rows``, a few at a time."""
    for chosen in np.split(rows, range(BATCH, len(rows), BATCH)):
        pixels = shards.pixels.take(chosen)
        if view:
            pixels = augment_batch(pixels, seeds=view_seeds(chosen, seed=seed, view=view))
        yield np.asarray(encode(pixels), np.float16)
