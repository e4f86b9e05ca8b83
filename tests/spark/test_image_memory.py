"""What a run remembers of captioned images reaches its workers, however many there are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.image_memory import ImageMemory, KnownImages


def image_ids(first: int, last: int) -> list[str]:
    return [f"{key:016x}{0:048x}" for key in range(first, last)]


def keys_in_worker(spark: SparkSession, known: KnownImages) -> list[list[int]]:
    def tell(_batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        keys = [array.tolist() for array in known()]
        yield pa.RecordBatch.from_pydict({"keys": keys})

    frame = spark.range(0, 1, 1, 1).mapInArrow(tell, "keys array<bigint>")
    return [list(row["keys"]) for row in frame.collect()]


def test_workers_see_each_image_once_and_sorted(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.image_memory.SEALED_KEYS", 4)
    memory = ImageMemory(spark.sparkContext, np.array([1, 2, 3], np.uint64))
    assert keys_in_worker(spark, memory.snapshot()) == [[1, 2, 3]]
    memory.add(image_ids(2, 4))
    early = memory.snapshot()
    memory.add(image_ids(4, 6))  # sealed with those before
    memory.add(image_ids(7, 8))
    memory.add(reversed(image_ids(6, 9)))
    assert keys_in_worker(spark, memory.snapshot()) == [[6, 7, 8], [1, 2, 3, 4, 5]]
    assert keys_in_worker(spark, early) == [[1, 2, 3]]


def test_what_travels_with_a_chunk_stays_small(spark: SparkSession) -> None:
    memory = ImageMemory(spark.sparkContext)
    for first in range(0, 200_000, 2_000):
        memory.add(image_ids(first, first + 2_000))
        assert memory.snapshot().recent.nbytes < 2**19
    known = memory.snapshot()
    assert sum(map(len, known())) == 200_000
