"""How fast this machine's cores decode photographs by the pipeline's own preprocessing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.context import SpawnContext
from typing import Any

import cv2

from models.images import preprocess_image


def images_per_second(
    files: Sequence[bytes], *, size: int, processes: int, seconds: float
) -> float:
    """Images that so many processes decode per second, all of them at work at the same time."""
    context: SpawnContext = get_context("spawn")  # a fork of a process that holds a GPU may hang
    shared = (context.Barrier(processes), list(files), size, seconds)
    with context.Pool(processes, initializer=_prepare, initargs=shared) as pool:
        return sum(pool.map(_decode_for_a_while, range(processes), chunksize=1))


_STAGE: list[Any] = []


def _prepare(*shared: Any) -> None:
    cv2.setNumThreads(1)
    _STAGE[:] = shared


def _decode_for_a_while(number: int) -> float:
    barrier, files, size, seconds = _STAGE
    barrier.wait()  # also keeps a quick process from taking another's turn
    started, done = time.perf_counter(), 0
    for data in cycle(files[number % len(files) :] + files[: number % len(files)]):
        if preprocess_image(data, size=size).pixels is not None:
            done += 1
        if (elapsed := time.perf_counter() - started) >= seconds:
            return done / elapsed
    raise AssertionError("there are no photographs to decode")
