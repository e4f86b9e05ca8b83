"""The lake: where its Delta tables lie, made on first use and checked on every other."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Lake:
    """An opened lake.

    Attributes:
        spark: the session that reads and writes it.
        uri: qualified path of the lake's folder.
        batch_depth: leading path components that don't name a batch; fixed at creation.
    """

    spark: SparkSession
    uri: str
    batch_depth: int

    @property
    def captions_uri(self) -> str:
        """Qualified path of the `captions` table."""
        return f"{self.uri}/captions"

    @property
    def runs_uri(self) -> str:
        """Qualified path of the `runs` table."""
        return f"{self.uri}/runs"

    def captions(self) -> DataFrame:
        """Return the `captions` table as it stands now."""
        return self.spark.read.format("delta").load(self.captions_uri)

    def runs(self) -> DataFrame:
        """Return the `runs` table as it stands now."""
        return self.spark.read.format("delta").load(self.runs_uri)


def open_lake(spark: SparkSession, uri: str, *, batch_depth: int | None = None) -> Lake:
    """Open the lake at a qualified path, and create its tables where nothing is there yet.

    Args:
        spark: a session with Delta.
        uri: qualified path (`storage.paths.qualify`).
        batch_depth: for a new lake (`storage.paths.default_batch_depth`); an existing lake keeps
            its own.

    Raises:
        LakeError: unwritable, not a lake of this software, of another schema or a newer version,
            or made with another batch depth than the one asked for... each named in one line.
    """
    raise NotImplementedError


def refuse_overlap(roots: list[str], lake_uri: str) -> None:
    """Raise LakeError where the lake lies in one of the input's roots, or a root in the lake."""
    raise NotImplementedError
