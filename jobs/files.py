"""How the files of a chunk reach the workers: opened by them, or handed over by Spark."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from conf.filesystem import HdfsAddress
from conf.settings import MEBIBYTE, WorkerSettings
from models.reasons import Reason
from storage.hdfs_address import hdfs_address
from storage.paths import is_local
from storage.reading import FEW_FILES, BinaryReader
from udfs.hdfs_files import LEAST_READERS, AssignedHdfsFiles
from udfs.sources import AssignedLocalFiles, Source, content_rows

log = logging.getLogger("captionlake")

MOST_AHEAD, MOST_AHEAD_BYTES = 64, 64 * MEBIBYTE  # of a task
FEW_FAILURES, MOST_FAILING = 3, 0.5  # of a chunk

Units = Sequence[Sequence[str]]


class Files(Protocol):
    """Files that a run reads."""

    def assign(self, units: Units, *, largest_bytes: int) -> tuple[DataFrame, Source]:
        """Return a frame with a partition for each unit's paths, and what makes files of it.

        Args:
            units: the paths of each task.
            largest_bytes: listed size of the largest of these files.
        """


class LocalFiles:
    """Files that each worker opens on its own file system, which costs no trip through the JVM."""

    def __init__(self, spark: SparkSession, *, max_file_bytes: int) -> None:
        self._spark = spark
        self._max_file_bytes = max_file_bytes

    def assign(self, units: Units, *, largest_bytes: int) -> tuple[DataFrame, Source]:  # noqa: ARG002
        """See `Files`."""
        return numbers(self._spark, units), AssignedLocalFiles(units, self._max_file_bytes)


class SparkFiles:
    """Files of any Hadoop filesystem, which Spark reads and hands over."""

    def __init__(self, spark: SparkSession, paths: Sequence[str], *, max_file_bytes: int) -> None:
        self._spark = spark
        self._paths = paths
        self._max_file_bytes = max_file_bytes

    def assign(self, units: Units, *, largest_bytes: int) -> tuple[DataFrame, Source]:  # noqa: ARG002
        """See `Files`; Spark packs the files into as many partitions by itself."""
        paths = [path for unit in units for path in unit]
        reader = self._reader_of(paths) if len(paths) <= FEW_FILES else self._of_all
        return reader.frame(paths, partitions=len(units)), content_rows

    @cached_property
    def _of_all(self) -> BinaryReader:
        return self._reader_of(self._paths)

    def _reader_of(self, paths: Sequence[str]) -> BinaryReader:
        return BinaryReader(self._spark, paths, max_file_bytes=self._max_file_bytes)


class HdfsFiles:
    """Files on HDFS that each worker reads itself.

    Attributes:
        by_spark: the same files, read by Spark: for those that the workers can't read.
    """

    def __init__(
        self,
        spark: SparkSession,
        address: HdfsAddress,
        by_spark: SparkFiles,
        *,
        max_file_bytes: int,
        readers: int,
    ) -> None:
        self.by_spark = by_spark
        self._are_left_to_spark = False
        self._spark = spark
        self._address = address
        self._max_file_bytes = max_file_bytes
        self._readers = readers

    def assign(self, units: Units, *, largest_bytes: int) -> tuple[DataFrame, Source]:
        """See `Files`; once the workers have failed, Spark reads."""
        if self._are_left_to_spark:
            return self.by_spark.assign(units, largest_bytes=largest_bytes)
        source = AssignedHdfsFiles(
            units,
            self._max_file_bytes,
            self._address,
            self._readers,
            ahead=files_ahead(largest_bytes, readers=self._readers),
        )
        return numbers(self._spark, units), source

    def learn(self, unread: pa.Table, again: pa.Table, *, of_files: int) -> None:
        """Let Spark read all files from now on if it could read most of a chunk, and workers not.

        Args:
            unread: outcomes of the chunk's files that the workers couldn't read.
            again: outcomes of those that Spark then could.
            of_files: files of the chunk.
        """
        is_most = again.num_rows > max(FEW_FAILURES, MOST_FAILING * of_files)
        if is_most and not self._are_left_to_spark:
            self._are_left_to_spark = True
            log.warning(
                "Workers can't read from %s (for one: %s), so Spark does from now on.",
                self._address.uri,
                unread.column("detail")[0].as_py(),
            )


def files_ahead(largest_bytes: int, *, readers: int) -> int:
    """Return how many files of at most this size a task reads ahead: 64 MiB, or one per reader."""
    return max(readers, min(MOST_AHEAD, MOST_AHEAD_BYTES // max(1, largest_bytes)))


def is_unreadable(outcomes: pa.Table) -> pa.ChunkedArray:
    """Return for each outcome whether its file couldn't be read."""
    return pc.fill_null(pc.equal(outcomes.column("reason"), Reason.UNREADABLE), False)


def numbers(spark: SparkSession, units: Units) -> DataFrame:
    """Return a frame whose n-th partition holds the number n."""
    return spark.range(0, len(units), 1, len(units))


def files_of(
    spark: SparkSession, settings: WorkerSettings, paths: Sequence[str], *, decode_threads: int
) -> Files:
    """Return how to read these qualified paths, all of one filesystem."""
    limit = settings.max_file_bytes
    if is_local(paths[0]):
        return LocalFiles(spark, max_file_bytes=limit)
    by_spark = SparkFiles(spark, paths, max_file_bytes=limit)
    address = hdfs_address(spark, paths) if settings.hdfs_reader == "worker" else None
    if address is None:
        return by_spark
    readers = max(LEAST_READERS, decode_threads)
    return HdfsFiles(spark, address, by_spark, max_file_bytes=limit, readers=readers)
