"""Work that goes on in threads of their own while the driver does something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar
from uuid import uuid4

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

_PATIENCE_SECONDS = 0.2

T = TypeVar("T")


@contextmanager
def beside(spark: SparkSession, work: Callable[[], T]) -> Iterator[Future[T]]:
    """Do the work in a thread while the block runs; its result, or its failure, is the future's.

    Where a block ends without the result, the work's Spark jobs are cancelled and its end awaited,
    so that none is under way when the session stops.
    """
    context, tag = spark.sparkContext, f"beside-{uuid4().hex}"

    def tagged() -> T:
        context.addJobTag(tag)
        return work()

    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        future = pool.submit(inheritable_thread_target(spark)(tagged))
        try:
            yield future
        finally:
            while not future.done():
                context.cancelJobsWithTag(tag)  # a job that isn't there yet, the next time
                wait([future], timeout=_PATIENCE_SECONDS)
