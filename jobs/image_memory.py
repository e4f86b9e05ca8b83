"""Which images have a caption already: the driver's memory of them, and what workers see of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark import Broadcast, SparkContext

from udfs.preparation import image_key

SEALED_KEYS = 2**16  # half a megabyte: more of them wouldn't travel with every chunk for nothing
Keys = npt.NDArray[np.uint64]
_NONE: Keys = np.empty(0, np.uint64)


@dataclass(frozen=True)
class KnownImages:
    """Images that have a caption, as the worker sees them: sorted 64-bit keys, `uint64 [K]` each.

    Attributes:
        sealed: arrays that each executor fetches once.
        recent: those since then, which travel with each chunk; fewer than `SEALED_KEYS`.
    """

    sealed: tuple[Broadcast[Keys], ...]
    recent: Keys

    def __call__(self) -> list[Keys]:
        """Return the arrays in the worker."""
        return [self.recent, *(keys.value for keys in self.sealed)]


class ImageMemory:
    """The driver's side of `KnownImages`; grows by 8 bytes per image as chunks are committed."""

    def __init__(self, context: SparkContext, before: Keys = _NONE) -> None:
        """Begin with the images of earlier runs."""
        self._context = context
        self._known = KnownImages((), _NONE)
        self._remember(before)

    def add(self, image_ids: Iterable[str]) -> None:
        """Remember images whose captions are committed."""
        self._remember(np.fromiter(map(image_key, image_ids), np.uint64))

    def snapshot(self) -> KnownImages:
        """Return what is known now."""
        return self._known

    def _remember(self, keys: Keys) -> None:
        sealed, recent = self._known.sealed, np.union1d(self._known.recent, keys)
        if len(recent) >= SEALED_KEYS:
            sealed, recent = (*sealed, self._context.broadcast(recent)), _NONE
        self._known = KnownImages(sealed, recent)
