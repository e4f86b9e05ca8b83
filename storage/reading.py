"""The bytes of files that lie on a Hadoop filesystem.

Local files are opened by the Python worker itself (`storage.paths.is_local`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from storage.hadoop import (
    failure_to_read,
    is_java_error,
    java_class,
    one_line,
    path_exists,
)
from storage.paths import parent_of
from storage.remote_files import stat_remote

# Of `models.reasons`.
VANISHED, EMPTY, UNREADABLE, TOO_LARGE = "vanished", "empty", "unreadable", "too_large"
_MOST_OPENED_PROBES = 3  # reading from a dead DataNode takes half a minute until it fails
# Spark packs files into partitions by size plus this; so large a cost makes it pack by count.
_OPEN_COST_BYTES = 2**40
# Spark reads the next batch while Python works on this one. Of a partition it would make one batch,
# all of whose files are read before the first is looked at: a tenth more of the tasks' time.
_FILES_PER_BATCH = 16
# Spark looks this many up in the driver, one by one; more would each be a task of a job.
FEW_FILES = 32


class BinaryReader:
    """Reads chunks of one run's files, and nothing is globbed.

    Their folders are listed once, with all that lies below, since Spark knows no other way; a few
    files are looked up by name instead.
    """

    def __init__(
        self, spark: SparkSession, paths: Sequence[str], *, max_file_bytes: int | None = None
    ) -> None:
        """Prepare to read files out of these qualified paths (the run's pending ones).

        Files of more than `max_file_bytes` are left out unopened; without it, Spark fails at files
        of more than 2 GiB.
        """
        self._spark = spark.newSession()  # how files are packed is a setting of the session
        for name, value in {
            "spark.sql.files.openCostInBytes": str(_OPEN_COST_BYTES),
            "spark.sql.files.minPartitionNum": "1",
            "spark.sql.files.ignoreMissingFiles": "true",
            "spark.sql.files.ignoreCorruptFiles": "true",
            "spark.sql.execution.arrow.maxRecordsPerBatch": str(_FILES_PER_BATCH),
        }.items():
            self._spark.conf.set(name, value)
        few = len(paths) <= FEW_FILES
        files = self._index(paths if few else top_folders({parent_of(path) for path in paths}))
        self._uri_of = _uris_by_path(self._spark, files)
        # Spark asks the filesystem for the length once more just before it opens a file.
        self._files = (
            files if max_file_bytes is None else files.where(F.col("length") <= max_file_bytes)
        )

    def frame(self, paths: Sequence[str], *, partitions: int) -> DataFrame:
        """Return `path string, content binary, mtime timestamp` in partitions of equal count.

        A file that can't be read is left out: ask `probe_unread` about the paths that don't
        return. The action itself fails where the filesystem denies access or has lost a block.
        """
        uris = [self._uri_of[path] for path in paths if path in self._uri_of]
        files_each = -(-max(1, len(uris)) // max(1, partitions))
        self._spark.conf.set(
            "spark.sql.files.maxPartitionBytes", str(files_each * _OPEN_COST_BYTES - 1)
        )
        return self._files.where(self._is_one_of(uris)).select(
            "path", "content", F.col("modificationTime").alias("mtime")
        )

    def _index(self, roots: Sequence[str]) -> DataFrame:
        """Return these files and the files below these folders, their contents unread."""
        reader = self._spark.read.format("binaryFile")
        reader = reader.option("recursiveFileLookup", "true").option("__globPaths__", "false")
        try:
            return reader.load(list(roots))
        except AnalysisException:  # one has vanished since the listing
            left = [root for root in roots if path_exists(self._spark, root)]
            return reader.load(left) if left else self._no_file()

    def _no_file(self) -> DataFrame:
        columns = "path string, modificationTime timestamp, length bigint, content binary"
        metadata = "_metadata struct<file_path: string>"
        return self._spark.createDataFrame([], f"{columns}, {metadata}")

    def _is_one_of(self, uris: Sequence[str]) -> ClassicColumn:
        """Return a condition that prunes files before they are opened, built in one call."""
        strings = java_class(self._spark, "org.apache.hadoop.util.StringUtils")
        values = strings.getStringCollection("\0".join(uris), "\0")
        functions = java_class(self._spark, "org.apache.spark.sql.functions")
        column = functions.col("_metadata.file_path")
        return ClassicColumn(column.isInCollection(values))


def top_folders(folders: set[str]) -> list[str]:
    """Return the folders that lie in no other of them, sorted."""
    kept: list[str] = []
    for folder in sorted(folders, key=lambda name: f"{name.rstrip('/')}/"):
        if not kept or not folder.startswith(f"{kept[-1].rstrip('/')}/"):
            kept.append(folder)
    return kept


def _uris_by_path(spark: SparkSession, files: DataFrame) -> dict[str, str]:
    """Return each file's percent-encoded form, in which Spark compares it, by its path."""
    strings: Any = java_class(spark, "org.apache.hadoop.util.StringUtils")
    joined = str(strings.join("\0", files._jdf.inputFiles()))
    return {unquote(uri): uri for uri in joined.split("\0") if uri}


def probe_unread(
    spark: SparkSession, paths: Sequence[str], *, max_file_bytes: int | None = None
) -> dict[str, tuple[str, str]]:
    """Say why files did not return from a read, by a reader with this limit.

    Returns:
        Path → (reason, detail), the reason being `vanished`, `empty` (Spark reads no file without
        bytes), `too_large` or `unreadable`. Of many unreadable files only the first few are opened
        again; the others get the same detail.
    """
    told: dict[str, tuple[str, str]] = {}
    failures: list[str] = []
    for path in paths:
        entry = stat_remote(spark, path)
        if entry is None:
            told[path] = VANISHED, "gone since it was listed"
        elif entry.size_bytes == 0:
            told[path] = EMPTY, "no bytes"
        elif max_file_bytes is not None and entry.size_bytes > max_file_bytes:
            told[path] = TOO_LARGE, f"{entry.size_bytes} bytes, limit {max_file_bytes}"
        else:
            if len(failures) < _MOST_OPENED_PROBES:
                failures.append(_open_failure(spark, path))
            told[path] = UNREADABLE, failures[-1]
    return told


def _open_failure(spark: SparkSession, path: str) -> str:
    """Read the first byte once more and return what the filesystem says."""
    error = failure_to_read(spark, path)
    if error is None:
        return "could not be read, but can be now"
    denied = is_java_error(error, "AccessControlException")
    return f"permission denied: {one_line(error)}" if denied else one_line(error)
