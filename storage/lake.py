"""The lake: where its Delta tables lie, made on first use and checked on every other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.hadoop import path_exists, reported_as
from storage.schemas import BATCH_DEPTH_PROPERTY, CAPTIONS, EXCLUSIONS, RUNS
from storage.seen_commits import SeenCommits
from storage.tables import open_table

MOST_LITERAL_BATCHES = 2000  # beyond, a list of literals costs more than the files it skips


@dataclass(frozen=True)
class Lake:
    """An opened lake.

    Attributes:
        spark: the session that reads and writes it.
        uri: qualified path of the lake's folder.
        batch_depth: leading path components that don't name a batch; fixed at creation.
        seen_commits: what this process knows of the versions of `captions`.
    """

    spark: SparkSession
    uri: str
    batch_depth: int
    seen_commits: SeenCommits = field(default_factory=SeenCommits, compare=False, repr=False)

    @property
    def captions_uri(self) -> str:
        """Qualified path of the `captions` table."""
        return captions_uri(self.uri)

    @property
    def runs_uri(self) -> str:
        """Qualified path of the `runs` table."""
        return runs_uri(self.uri)

    @property
    def exclusions_uri(self) -> str:
        """Qualified path of the `exclusions` table, which the first withdrawal makes."""
        return f"{self.uri}/exclusions"

    @property
    def reports_uri(self) -> str:
        """Qualified path of the folder of the runs' pages."""
        return f"{self.uri}/reports"

    def captions(self) -> DataFrame:
        """Return the `captions` table as it stands now."""
        return self._table(self.captions_uri)

    def runs(self) -> DataFrame:
        """Return the `runs` table as it stands now."""
        return self._table(self.runs_uri)

    def _table(self, uri: str) -> DataFrame:
        with reported_as(LakeError, f"Can't read {uri}"):
            return self.spark.read.format("delta").load(uri)


def in_batches(column: Column, batches: Sequence[str]) -> Column:
    """Return a condition that prunes a table to the batches, or true where they are too many."""
    return column.isin(list(batches)) if len(batches) <= MOST_LITERAL_BATCHES else F.lit(True)


def captions_uri(lake_uri: str) -> str:
    """Return the path of a lake's `captions` table."""
    return f"{lake_uri.rstrip('/')}/captions"


def runs_uri(lake_uri: str) -> str:
    """Return the path of a lake's `runs` table."""
    return f"{lake_uri.rstrip('/')}/runs"


def open_lake(spark: SparkSession, uri: str, *, batch_depth: int) -> Lake:
    """Open the lake at a qualified path, and create its tables where nothing is there yet.

    Args:
        spark: a session with Delta.
        uri: qualified path (`storage.paths.qualify`).
        batch_depth: for a new lake (`storage.paths.default_batch_depth`); an existing one keeps
            its own, since a file must not change its batch.

    Raises:
        LakeError: unwritable, not a lake of this software, of another schema or a newer version.
    """
    with reported_as(LakeError, f"Can't open the lake {uri}", remedy="Check --lake."):
        captions = open_table(
            spark, captions_uri(uri), CAPTIONS, partition="batch", batch_depth=batch_depth
        )
        open_table(spark, runs_uri(uri), RUNS, partition="run_id", batch_depth=batch_depth)
    return Lake(spark, uri.rstrip("/"), int(captions[BATCH_DEPTH_PROPERTY]))


def open_existing_lake(spark: SparkSession, uri: str) -> Lake:
    """Open a lake that must be there; otherwise as `open_lake`."""
    with reported_as(LakeError, f"Can't open the lake {uri}", remedy="Check --lake."):
        if not path_exists(spark, captions_uri(uri)):
            raise LakeError(f"There is no lake at {uri}.", remedy="Check --lake.")
    return open_lake(spark, uri, batch_depth=0)


def open_exclusions(lake: Lake) -> None:
    """Create the table `exclusions` where it isn't there yet, else check it.

    Raises:
        LakeError: as `open_lake`.
    """
    with reported_as(LakeError, f"Can't open {lake.exclusions_uri}"):
        depth = lake.batch_depth
        open_table(lake.spark, lake.exclusions_uri, EXCLUSIONS, partition=None, batch_depth=depth)
