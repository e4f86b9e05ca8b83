"""Running the caption worker over chunks on Spark, ahead of the commits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast, inheritable_thread_target
from pyspark.sql import DataFrame, SparkSession

from jobs.chunks import Chunk, assign_units
from storage.paths import is_local
from storage.reading import binary_frame
from udfs.caption import CaptionPlan, CaptionWorker
from udfs.outcome import OUTCOME_DDL, OUTCOME_SCHEMA
from udfs.sources import AssignedLocalFiles, Source, content_rows

AHEAD = 2

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class KnownImages:
    """Sorted first 64 bits of image ids that have a caption, `uint64 [K]`, as a broadcast."""

    broadcast: Broadcast[npt.NDArray[np.uint64]]

    def __call__(self) -> npt.NDArray[np.uint64]:
        """Return the array in the worker."""
        return self.broadcast.value


def no_known_images() -> npt.NDArray[np.uint64]:
    """Return the empty array: every image is inferred."""
    return np.empty(0, np.uint64)


@dataclass(frozen=True)
class Inference:
    """Turns a chunk into outcomes.

    Attributes:
        spark: the session.
        plan: what the workers need.
        unit_files: files per Spark task.
        max_file_bytes: larger files aren't read.
    """

    spark: SparkSession
    plan: CaptionPlan
    unit_files: int
    max_file_bytes: int

    def outcomes(self, chunk: Chunk) -> pa.Table:
        """Return one row of `OUTCOME_SCHEMA` per file that could be asked for, in any order."""
        frame, source = self._frame(chunk)
        worker = CaptionWorker(source, self.plan)
        return frame.mapInArrow(worker, OUTCOME_DDL).toArrow().cast(OUTCOME_SCHEMA)

    def without_known_images(self) -> Inference:
        """Return the same inference, which also infers images that have a caption already."""
        return replace(self, plan=replace(self.plan, known_images=no_known_images))

    def _frame(self, chunk: Chunk) -> tuple[DataFrame, Source]:
        """Local files are opened by the worker itself, which is faster than through the JVM."""
        slots = self.spark.sparkContext.defaultParallelism
        units = assign_units(chunk.files, unit_files=self.unit_files, slots=slots)
        if is_local(chunk.paths[0]):
            frame = self.spark.range(0, len(units), 1, len(units))
            return frame, AssignedLocalFiles(units, self.max_file_bytes)
        return binary_frame(self.spark, chunk.paths, partitions=len(units)), content_rows


def map_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield `(item, function(item))` in order while the next `AHEAD` items are being worked on.

    The cluster stays busy while the caller commits, and at most `AHEAD + 1` results exist.
    """
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="inference")
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(inheritable_thread_target(function), item)))
            if len(waiting) > AHEAD:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
