"""Decoding inside a Spark worker, safe from files that crash or hang native code."""

from __future__ import annotations

from functools import lru_cache

from pyspark import TaskContext

from models.images import DecodeLimits, Preprocessed, preprocess_image
from models.isolation import IsolatedPreprocessor
from models.watchdog import guard


def preprocess_safely(
    data: bytes, *, name: str, size: int, limits: DecodeLimits, isolated: bool
) -> Preprocessed:
    """Decode here under the watchdog or, where an earlier attempt died, in a child process.

    name: what the watchdog calls the file in this worker's last words.
    """
    if isolated:
        return isolated_preprocessor().preprocess(data, size=size, limits=limits)
    with guard(name, timeout_seconds=limits.timeout_seconds):
        return preprocess_image(data, size=size, limits=limits)


def is_retry() -> bool:
    """Tell whether an earlier attempt of this task failed, perhaps killed by one of its files."""
    context = TaskContext.get()
    return context is not None and context.attemptNumber() > 0


@lru_cache(maxsize=1)
def isolated_preprocessor() -> IsolatedPreprocessor:
    """Return this worker's child process for decoding."""
    return IsolatedPreprocessor()
