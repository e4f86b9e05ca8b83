"""Starting an executor's Python before there is work for it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.types import LongType, StructField, StructType

from udfs.budget import seconds_to_first_task

_NUMBERS = StructType([StructField("id", LongType())])


def start_python(spark: SparkSession) -> None:
    """Start Spark's Python daemon, which imports what captioning needs, by a task of one row.

    The task's worker stays, and the next ones are forks of the daemon.
    """
    spark.range(0, 1, 1, 1).mapInArrow(_pass_on, _NUMBERS).toArrow()


def _pass_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    seconds_to_first_task()  # this was it: what the worker waits for from now on is no start
    yield from batches
