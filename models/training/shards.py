"""Pixels and captions on a local disk, in parts that are mapped and never read whole.

Shapes: n rows of a part · S image side · N grid cells · C channels.
A shard folder holds ``part-00000.npy`` (uint8 [n, S, S, 3], RGB), ``part-00000.json`` (names and
captions of the same rows) and, written last, ``index.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conf.errors import InputError
from models.training.whole import written_whole

PART_ROWS = 512
INDEX = "index.json"


class Example(NamedTuple):
    """One photograph: name, uint8 [S, S, 3] RGB pixels, and its captions."""

    name: str
    pixels: npt.NDArray[np.uint8]
    captions: Sequence[str]


class MappedRows:
    """Rows of several ``.npy`` files as one array on disk; ``take`` copies out what is asked.

    No file stays open: of many photographs there are more parts than a process may hold open.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._starts = np.cumsum([0, *(len(_mapped(path)) for path in paths)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Rows by number, in the order asked; each part that holds some is opened once."""
        wanted = np.asarray(rows, np.int64)
        parts = np.searchsorted(self._starts, wanted, side="right") - 1
        one = _mapped(self._paths[0])
        found = np.empty((len(wanted), *one.shape[1:]), one.dtype)
        for number in np.unique(parts):
            is_here = parts == number
            part = _mapped(self._paths[number])
            found[is_here] = part[wanted[is_here] - self._starts[number]]
        return found

    def parts(self, rows: int) -> Iterator[npt.NDArray[Any]]:
        """All rows in order, so many at a time."""
        for first in range(0, len(self), rows):
            yield self.take(np.arange(first, min(first + rows, len(self))))


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Rows of one file; it is closed when the array is forgotten."""
    part: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return part


class Shards:
    """An opened shard folder."""

    def __init__(self, directory: Path) -> None:
        """Open a finished folder; raises InputError when it isn't one."""
        self.directory = directory
        try:
            facts = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            raise InputError(
                f"{directory} holds no finished shards.", remedy="Write them anew."
            ) from error
        self.image_size: int = facts["image_size"]
        self.fingerprint: str = facts["fingerprint"]
        """SHA-256 over pixels and captions, whatever their order."""
        self.names: list[str] = []
        self.captions: list[list[str]] = []
        for path in _paths(directory, "json"):
            part = json.loads(path.read_text(encoding="utf-8"))
            self.names += part["names"]
            self.captions += part["captions"]
        self.pixels = MappedRows(_paths(directory, "npy"))

    def __len__(self) -> int:
        return len(self.names)


def _paths(directory: Path, suffix: str) -> list[Path]:
    return sorted(directory.glob(f"part-*.{suffix}"))


def write_shards(examples: Iterable[Example], directory: Path, *, image_size: int) -> Shards:
    """Write examples to an empty or missing folder, one part in memory at a time."""
    directory.mkdir(parents=True, exist_ok=True)
    digests: list[bytes] = []
    for number, part in enumerate(_in_parts(examples)):
        stem = directory / f"part-{number:05d}"
        pixels = np.stack([example.pixels for example in part])
        rows = {
            "names": [example.name for example in part],
            "captions": [list(example.captions) for example in part],
        }
        np.save(stem.with_suffix(".npy"), pixels)
        stem.with_suffix(".json").write_text(json.dumps(rows), encoding="utf-8")
        digests += map(_digest, part)
    fingerprint = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    facts = {"image_size": image_size, "fingerprint": fingerprint}
    with written_whole(directory / INDEX) as partial:
        partial.write_text(json.dumps(facts), encoding="utf-8")
    return Shards(directory)


def _in_parts(examples: Iterable[Example]) -> Iterator[list[Example]]:
    remaining = iter(examples)
    while part := list(islice(remaining, PART_ROWS)):
        yield part


def _digest(example: Example) -> bytes:
    text = json.dumps([example.name, list(example.captions)]).encode()
    return hashlib.sha256(text + b"\0" + example.pixels.tobytes()).digest()
