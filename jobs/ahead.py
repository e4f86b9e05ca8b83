"""Working on items ahead of their use, the Spark jobs of each before those of the next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

from storage.pools import INFERENCE, in_pool

AHEAD = 2
_POLL_SECONDS = 0.02

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(
    spark: SparkSession, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[tuple[T, R]]:
    """Yield `(item, function(item))` in order while the next `AHEAD` items are being worked on.

    The cluster stays busy while the caller commits, and at most `AHEAD + 1` results exist. Task
    slots go to the earliest item that has tasks left: an item is given to Spark only when the one
    before it is there, since two threads that start at once would be there in any order.
    """
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="inference")
    waiting: deque[tuple[T, Future[R]]] = deque()

    def work(item: T, group: str) -> R:
        with in_pool(spark, INFERENCE):
            spark.sparkContext.setJobGroup(group, group)
            return function(item)

    run = uuid4().hex
    try:
        for number, item in enumerate(items, 1):
            if waiting:
                _wait_for_job(spark, f"{run} {number - 1}", waiting[-1][1])
            # Each has local properties of its own: those of one wrapped function are shared.
            target = inheritable_thread_target(spark)(work)
            waiting.append((item, pool.submit(target, item, f"{run} {number}")))
            if len(waiting) > AHEAD:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _wait_for_job(spark: SparkSession, group: str, work: Future[R]) -> None:
    """Return once Spark knows a job of the group, or the work is over without one."""
    tracker = spark.sparkContext.statusTracker()
    while not work.done() and not tracker.getJobIdsForGroup(group):
        time.sleep(_POLL_SECONDS)
