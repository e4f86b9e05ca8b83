"""Working ahead: the Spark jobs of an item come before those of the next."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from pyspark import TaskContext
from pyspark.sql import SparkSession

from jobs.ahead import map_ahead


def place_in_turn(_rows: Iterable[int]) -> Iterator[int]:
    """Take a while, and tell the number that Spark gave the task when it got its slot."""
    time.sleep(0.2)
    context = TaskContext.get()
    assert context is not None
    yield context.taskAttemptId()


def test_an_item_that_is_slow_to_plan_still_comes_first(spark: SparkSession) -> None:
    slots = spark.sparkContext.defaultParallelism

    def run_tasks(item: int) -> list[int]:
        time.sleep({0: 0.5, 2: 2.0}.get(item, 0))  # the second outlasts all tasks of the others
        tasks = spark.sparkContext.range(3 * slots, numSlices=3 * slots)
        return list(tasks.mapPartitions(place_in_turn).collect())

    places = [places for _, places in map_ahead(spark, run_tasks, range(4))]
    for earlier, later in pairwise(places):
        assert max(earlier) < min(later)


def test_items_without_a_job_hold_up_nothing(spark: SparkSession) -> None:
    assert list(map_ahead(spark, str, range(5))) == [(item, str(item)) for item in range(5)]


def test_a_failure_is_raised_in_its_turn(spark: SparkSession) -> None:
    def divide(item: int) -> float:
        return spark.sparkContext.range(1).count() / item

    results = map_ahead(spark, divide, [1, 0, 2])
    assert next(results) == (1, 1.0)
    with pytest.raises(ZeroDivisionError):
        next(results)
