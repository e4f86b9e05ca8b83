"""The `exclusions` table: what must leave the lake and not come back."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.commits import retried
from storage.delta_log import table_version
from storage.excluded import IMAGE, PATH, Exclusions, digest_of
from storage.hadoop import path_exists, reported_as
from storage.lake import Lake, open_exclusions
from storage.schemas import EXCLUSIONS


class ExclusionList:
    """A lake's exclusions as they stand now; read again only where the table has changed."""

    def __init__(self, spark: SparkSession, exclusions_uri: str) -> None:
        self._spark, self._uri = spark, exclusions_uri
        self._version = -1
        self._known = Exclusions()

    def now(self) -> Exclusions:
        """Return what is excluded at this moment; nothing where no table was made yet.

        Raises:
            LakeError: the table can't be read.
        """
        with reported_as(LakeError, f"Can't read {self._uri}"):
            if self._version < 0 and not path_exists(self._spark, f"{self._uri}/_delta_log"):
                return self._known
            version = table_version(self._spark, self._uri)
            if version != self._version:
                self._known, self._version = self._read(), version
        return self._known

    def _read(self) -> Exclusions:
        rows = self._spark.read.format("delta").load(self._uri).select("kind", "digest").collect()
        by_kind = {kind: frozenset(d for k, d in rows if k == kind) for kind in (PATH, IMAGE)}
        return Exclusions(by_kind[PATH], by_kind[IMAGE])


def exclude(lake: Lake, *, paths: Collection[str], images: Collection[str], run_id: str) -> None:
    """Put qualified paths and image ids on the list; those on it already stay as they are.

    Raises:
        LakeError: the table can't be made or written.
    """
    open_exclusions(lake)
    now = datetime.now(UTC)
    keys = [(PATH, path) for path in paths] + [(IMAGE, image) for image in images]
    rows = [(kind, digest_of(kind, value), now, run_id) for kind, value in keys]
    with reported_as(LakeError, f"Can't write {lake.exclusions_uri}"):
        new = lake.spark.createDataFrame(rows, EXCLUSIONS).coalesce(1).alias("new")
        same = (F.col("old.kind") == F.col("new.kind")) & (
            F.col("old.digest") == F.col("new.digest")
        )
        table = DeltaTable.forPath(lake.spark, lake.exclusions_uri).alias("old")
        retried(lambda: table.merge(new, same).whenNotMatchedInsertAll().execute())


def is_excluded(exclusions: Exclusions, *, image_id: Column) -> Column:
    """Return whether a row's photograph was withdrawn, by its column `path` or its image id."""
    by_path = _is_listed(PATH, F.col("path"), exclusions.paths)
    return by_path | _is_listed(IMAGE, image_id, exclusions.images)


def _is_listed(kind: str, value: Column, digests: Collection[str]) -> Column:
    digest = F.sha2(F.concat(F.lit(f"{kind}:"), value), 256)
    return F.coalesce(digest.isin(list(digests)), F.lit(False))
