"""The bytes of files that lie on a Hadoop filesystem.

Local files are opened by the Python worker itself (`storage.paths.is_local`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession


class BinaryReader:
    """Reads chunks of one run's listing without listing or globbing again."""

    def __init__(self, spark: SparkSession, paths: Sequence[str]) -> None:
        """Prepare to read files out of these qualified paths (the run's pending ones)."""
        raise NotImplementedError

    def frame(self, paths: Sequence[str], *, partitions: int) -> DataFrame:
        """Return `path string, content binary` in about so many partitions of equal count.

        A file that can't be read is left out: ask `probe_unread` about the paths that don't return.
        """
        raise NotImplementedError


def probe_unread(spark: SparkSession, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Say why files did not return from a read.

    Returns:
        Path → (reason, detail), the reason being `vanished` or `unreadable`.
    """
    raise NotImplementedError
