"""From a file to pixels or to its outcome without inference: read, hash, look up, decode."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from queue import SimpleQueue

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
    ahead: int,
    budget: TaskBudget,
) -> Iterator[Prepared]:
    """Map in order, in threads that go on while the consumer is busy; with 0 when asked for.

    At most `ahead` results wait for the consumer, and each thread has two files in hand.
    """
    if threads == 0:
        yield from map(function, budget.waiting(files))
        return
    with ThreadPoolExecutor(threads) as pool, closing(_Feeder(pool, threads, ahead)) as feeder:
        results = feeder.feed(function, files)
        while (result := _next_of(results, budget)) is not None:
            yield result


def _next_of(results: Iterator[Future[Prepared]], budget: TaskBudget) -> Prepared | None:
    with budget.measure("wait"):
        future = next(results, None)
        return None if future is None else future.result()


class _Feeder:
    """Hands files to a pool from a thread of its own, since the consumer may be busy for long."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int, ahead: int) -> None:
        self._pool = pool
        self._in_hand = threading.Semaphore(2 * threads)
        self._room = threading.Semaphore(ahead)
        self._futures: SimpleQueue[Future[Prepared] | None] = SimpleQueue()
        self._is_closed = False
        self._failure: BaseException | None = None

    def feed(
        self, function: Callable[[SourceFile], Prepared], files: Iterator[SourceFile]
    ) -> Iterator[Future[Prepared]]:
        """Yield what becomes of each file, in order; raises what reading the files raised."""
        self._thread = threading.Thread(target=self._hand_over, args=(function, files))
        self._thread.start()
        while (future := self._futures.get()) is not None:
            self._room.release()
            yield future
        if self._failure is not None:
            raise self._failure

    def _hand_over(
        self, function: Callable[[SourceFile], Prepared], files: Iterator[SourceFile]
    ) -> None:
        try:
            for file in files:
                self._room.acquire()
                self._in_hand.acquire()
                if self._is_closed:
                    break
                future = self._pool.submit(function, file)
                future.add_done_callback(lambda _: self._in_hand.release())
                self._futures.put(future)
        except BaseException as failure:  # noqa: BLE001  # the consumer is the one to raise it
            self._failure = failure
        self._futures.put(None)

    def close(self) -> None:
        """Take no further file."""
        self._is_closed = True
        self._room.release()
        self._in_hand.release()
        self._thread.join()


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
