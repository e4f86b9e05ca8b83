"""From a file to pixels or to its outcome without inference: read, hash, look up, decode."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from models.images import DecodeLimits, Preprocessed
from udfs.budget import TaskBudget
from udfs.decoding import is_retry, preprocess_safely
from udfs.outcome import ALREADY_CAPTIONED, EXCLUDED, Outcome
from udfs.sources import Content, SourceFile


@dataclass(frozen=True)
class Prepared:
    """A file ready for the model (`pixels`), finished (`pixels` is None), or a twin.

    Attributes:
        outcome: what is known so far.
        pixels: `uint8 [S, S, 3]`.
        twin: the same bytes are being captioned under another path of this task.
        read_seconds: time to read and hash the file.
        decode_seconds: time to look it up and decode it.
    """

    outcome: Outcome
    pixels: npt.NDArray[np.uint8] | None = None
    twin: bool = False
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


class Preparation:
    """Reads, hashes and decodes the files of one task; safe in several threads."""

    def __init__(
        self,
        *,
        limits: DecodeLimits,
        image_size: int,
        known_images: list[npt.NDArray[np.uint64]],
        is_excluded: Callable[[str], bool],
    ) -> None:
        self._limits = limits
        self._is_excluded = is_excluded
        self._size = image_size
        self._known = known_images
        self._first_path: dict[str, str] = {}
        self._isolated = is_retry()

    def __call__(self, file: SourceFile) -> Prepared:
        """Return the file with its pixels, or with the outcome it has without inference."""
        started = time.perf_counter()
        content = file.read()
        outcome = _outcome_of(file.path, content)
        read = time.perf_counter()
        prepared = self._decode(file, content, outcome)
        decoded = time.perf_counter()
        return replace(prepared, read_seconds=read - started, decode_seconds=decoded - read)

    def _decode(self, file: SourceFile, content: Content, outcome: Outcome) -> Prepared:
        if content.data is None or outcome.image_id is None:
            return Prepared(outcome)
        if self._first_path.setdefault(outcome.image_id, file.path) != file.path:
            return Prepared(outcome, twin=True)
        if self._is_excluded(outcome.image_id):
            return Prepared(replace(outcome, status=EXCLUDED))
        if any(contains(keys, image_key(outcome.image_id)) for keys in self._known):
            return Prepared(replace(outcome, status=ALREADY_CAPTIONED))
        image = preprocess_safely(
            content.data,
            name=file.path,
            size=self._size,
            limits=self._limits,
            isolated=self._isolated,
        )
        return Prepared(_with_image(outcome, image), image.pixels)


def image_key(image_id: str) -> int:
    """Return the first 64 bits of a hex SHA-256."""
    return int(image_id[:16], 16)


def contains(sorted_keys: npt.NDArray[np.uint64], key: int) -> bool:
    """Tell whether `key` is in `sorted_keys` (`uint64 [K]`, ascending)."""
    wanted = np.uint64(key)
    position = int(np.searchsorted(sorted_keys, wanted))
    return position < len(sorted_keys) and bool(sorted_keys[position] == wanted)


def map_ahead(
    function: Callable[[SourceFile], Prepared],
    files: Iterator[SourceFile],
    *,
    threads: int,
    budget: TaskBudget,
) -> Iterator[Prepared]:
    """Map in order, `threads` files ahead of the consumer; with 0 threads when asked for."""
    if threads == 0:
        yield from map(function, budget.waiting(files))
        return
    with ThreadPoolExecutor(threads) as pool:
        with budget.measure("wait"):
            ahead = deque(pool.submit(function, file) for file in islice(files, 2 * threads))
        while ahead:
            with budget.measure("wait"):
                result = ahead.popleft().result()
                ahead.extend(pool.submit(function, file) for file in islice(files, 1))
            yield result


def _outcome_of(path: str, content: Content) -> Outcome:
    if content.data is None:
        return Outcome(
            path,
            read_bytes=content.length,
            read_mtime=content.mtime,
            reason=content.reason,
            detail=content.detail,
        )
    return Outcome(
        path,
        image_id=hashlib.sha256(content.data).hexdigest(),
        read_bytes=content.length,
        read_mtime=content.mtime,
    )


def _with_image(outcome: Outcome, image: Preprocessed) -> Outcome:
    return replace(
        outcome,
        width=_as_int32(image.width),
        height=_as_int32(image.height),
        format=image.format,
        reason=image.reason,
        detail=image.detail,
    )


def _as_int32(value: int | None) -> int | None:
    """A hostile header may claim more pixels than the column holds; such a claim is no size."""
    return value if value is not None and value < 2**31 else None
