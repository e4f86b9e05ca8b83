"""The lake: where its Delta tables lie, made on first use and checked on every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from conf.errors import LakeError
from storage.delta_log import table_metadata
from storage.hadoop import JAVA_ERRORS, file_system, hadoop_path, path_exists, reported_as
from storage.schemas import (
    BATCH_DEPTH_PROPERTY,
    CAPTIONS,
    RUNS,
    SCHEMA_VERSION,
    SCHEMA_VERSION_PROPERTY,
)
from storage.seen_commits import SeenCommits

_MOST_LITERAL_BATCHES = 2000  # beyond, a list of literals costs more than the files it skips
_OTHER_LAKE = "Give --lake another folder, or move what is there away."


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

    def captions(self) -> DataFrame:
        """Return the `captions` table as it stands now."""
        return self.spark.read.format("delta").load(self.captions_uri)

    def runs(self) -> DataFrame:
        """Return the `runs` table as it stands now."""
        return self.spark.read.format("delta").load(self.runs_uri)


def in_batches(column: Column, batches: Sequence[str]) -> Column:
    """Return a condition that prunes a table to the batches, or true where they are too many."""
    return column.isin(list(batches)) if len(batches) <= _MOST_LITERAL_BATCHES else F.lit(True)


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
        captions = _open_table(spark, captions_uri(uri), CAPTIONS, "batch", batch_depth)
        _open_table(spark, runs_uri(uri), RUNS, "run_id", batch_depth)
    return Lake(spark, uri.rstrip("/"), int(captions[BATCH_DEPTH_PROPERTY]))


def _open_table(
    spark: SparkSession, uri: str, schema: StructType, partition: str, batch_depth: int
) -> Mapping[str, str]:
    """Return the table's properties, after creating or checking it."""
    if not DeltaTable.isDeltaTable(spark, uri):
        _refuse_strangers(spark, uri)
        _create_table(spark, uri, schema, partition, batch_depth)
    properties, columns = table_metadata(spark, uri)
    _check_version(uri, properties)
    _check_columns(uri, columns, schema)
    return properties


def _create_table(
    spark: SparkSession, uri: str, schema: StructType, partition: str, batch_depth: int
) -> None:
    """Create the table; where another process was quicker, its table counts."""
    builder = DeltaTable.createIfNotExists(spark).location(uri).addColumns(schema)
    properties = {
        SCHEMA_VERSION_PROPERTY: str(SCHEMA_VERSION),
        BATCH_DEPTH_PROPERTY: str(batch_depth),
        # A commit that read nothing (a blind append) must also conflict with one that did.
        "delta.isolationLevel": "Serializable",
    }
    for name, value in properties.items():
        builder = builder.property(name, value)
    try:
        builder.partitionedBy(partition).execute()
    except JAVA_ERRORS:
        if not DeltaTable.isDeltaTable(spark, uri):
            raise


def _refuse_strangers(spark: SparkSession, uri: str) -> None:
    """Raise LakeError where a folder holds files but no Delta table."""
    if path_exists(spark, uri) and len(file_system(spark, uri).listStatus(hadoop_path(spark, uri))):
        raise LakeError(f"{uri} holds files that are no Delta table.", remedy=_OTHER_LAKE)


def _check_version(uri: str, properties: Mapping[str, str]) -> None:
    version = properties.get(SCHEMA_VERSION_PROPERTY, "")
    if not version.isdecimal():
        raise LakeError(f"{uri} is a Delta table of another software.", remedy=_OTHER_LAKE)
    if int(version) > SCHEMA_VERSION:
        raise LakeError(
            f"{uri} has schema version {version}, and this software knows {SCHEMA_VERSION}.",
            remedy="Update this software, or give --lake another folder.",
        )


def _check_columns(uri: str, found: StructType, expected: StructType) -> None:
    """Raise LakeError unless the table has all expected columns; others are left alone."""
    kinds = {field.name: field.dataType for field in found}
    wrong = [field.name for field in expected if kinds.get(field.name) != field.dataType]
    if wrong:
        raise LakeError(
            f"{uri} has another schema: column {', '.join(wrong)} is missing or of another type.",
            remedy=_OTHER_LAKE,
        )
