"""Work beside the driver's own: its result, its failure, and who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.beside import beside
from jobs.session import task_slots
from udfs.starting import start_python

DAWDLE_SECONDS = 40


def test_work_goes_on_while_the_block_does(spark: SparkSession) -> None:
    meeting = threading.Barrier(2, timeout=30)
    with beside(spark, lambda: (meeting.wait(), spark.range(3).count())) as counted:
        meeting.wait()
        assert counted.result()[1] == 3


def test_a_failure_is_raised_where_the_result_is_asked_for(spark: SparkSession) -> None:
    with beside(spark, lambda: 1 / 0) as failed, pytest.raises(ZeroDivisionError):
        failed.result()


def test_what_nobody_asks_for_is_cancelled_and_over_with_the_block(spark: SparkSession) -> None:
    began = time.monotonic()
    with beside(spark, lambda: spark.range(1).mapInArrow(_dawdle, "id bigint").collect()) as slow:
        time.sleep(3)  # until its task runs
    assert slow.exception() is not None
    assert time.monotonic() - began < DAWDLE_SECONDS


def test_a_job_that_comes_after_the_blocks_end_is_cancelled_too(spark: SparkSession) -> None:
    is_over = threading.Event()

    def plan_for_long() -> object:
        is_over.wait()
        time.sleep(1)
        return spark.range(1).mapInArrow(_dawdle, "id bigint").collect()

    began = time.monotonic()
    with beside(spark, plan_for_long) as late:
        is_over.set()
    assert late.exception() is not None
    assert time.monotonic() - began < DAWDLE_SECONDS


def _dawdle(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    time.sleep(DAWDLE_SECONDS)
    yield from batches


def test_the_python_of_the_executors_can_be_started_ahead(spark: SparkSession) -> None:
    start_python(spark)


@pytest.mark.parametrize(("cores_per_task", "slots"), [(None, 8), ("8", 1), ("3", 2), ("16", 1)])
def test_a_task_that_takes_several_cores_is_one_slot(
    cores_per_task: str | None, slots: int
) -> None:
    settings = {} if cores_per_task is None else {"spark.task.cpus": cores_per_task}
    context = SimpleNamespace(defaultParallelism=8, getConf=lambda: settings)
    session: Any = SimpleNamespace(sparkContext=context)
    assert task_slots(cast("SparkSession", session)) == slots
