"""Spark's scheduler pools, which decide who gets the next free task slot (scheduler mode FAIR).

Pools share the slots evenly. Within a pool that no allocation file describes jobs queue up in the
order of their submission, but in Spark's own `default` pool they share the slots evenly as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

COMMITS = "commits"
INFERENCE = "inference"
_PROPERTY = "spark.scheduler.pool"


@contextmanager
def in_pool(spark: SparkSession, name: str) -> Iterator[None]:
    """Let the Spark jobs that this thread submits in the block belong to a pool."""
    context = spark.sparkContext
    before = context.getLocalProperty(_PROPERTY)
    context.setLocalProperty(_PROPERTY, name)
    try:
        yield
    finally:
        context.setLocalProperty(_PROPERTY, before)  # type: ignore[arg-type]  # None takes it away
