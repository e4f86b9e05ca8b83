"""One Delta table of a lake: made on first use, checked on every other, upgraded when older."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping

from delta.tables import DeltaTable
from deltalake import DeltaTable as RustTable
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, MapType, StructType

from conf.errors import LakeError
from storage.delta_log import is_conflict, table_metadata, table_version
from storage.delta_rs import ask_delta_rs
from storage.hadoop import JAVA_ERRORS, delete_file, list_times
from storage.schemas import (
    BATCH_DEPTH_PROPERTY,
    SCHEMA_VERSION,
    SCHEMA_VERSION_PROPERTY,
    UNTOLD,
)

_LOG_FOLDER = "_delta_log"
_CREATION_SECONDS = 30.0  # a busy machine takes a few; after that the other process is dead
_OTHER_LAKE = "Give --lake another folder, or move what is there away."
log = logging.getLogger("captionlake")


def open_table(
    spark: SparkSession, uri: str, schema: StructType, *, partition: str | None, batch_depth: int
) -> Mapping[str, str]:
    """Return the table's properties, after creating, upgrading or checking it.

    Raises:
        LakeError: not a table of this software, of another schema, or of a newer version.
    """
    known = ask_delta_rs(spark, uri, _properties_and_columns)
    if known is not None and _is_of_today(*known, schema):
        return known[0]
    if not DeltaTable.isDeltaTable(spark, uri):
        _refuse_strangers(spark, uri)
        _create(spark, uri, schema, partition, batch_depth)
    properties, columns, _ = table_metadata(spark, uri)
    if _check_version(uri, properties) < SCHEMA_VERSION:
        _check_columns(uri, columns, schema, may_lack=True)
        _upgrade(spark, uri, schema, partition)
        properties, columns, _ = table_metadata(spark, uri)
    _check_columns(uri, columns, schema)
    return properties


def _properties_and_columns(table: RustTable) -> tuple[dict[str, str], StructType]:
    properties = {name: value or "" for name, value in table.metadata().configuration.items()}
    return properties, StructType.fromJson(json.loads(table.schema().to_json()))


def _is_of_today(properties: Mapping[str, str], found: StructType, expected: StructType) -> bool:
    """Whether a table needs nothing done to it."""
    return _version_of(properties) == SCHEMA_VERSION and not _unlike(found, expected)


def _create(
    spark: SparkSession, uri: str, schema: StructType, partition: str | None, batch_depth: int
) -> None:
    """Create the table; where another process was quicker, its table counts."""
    builder = DeltaTable.createIfNotExists(spark).location(uri).addColumns(schema)
    properties = _properties(schema, partition) | {
        BATCH_DEPTH_PROPERTY: str(batch_depth),
        # A commit that read nothing (a blind append) must also conflict with one that did.
        "delta.isolationLevel": "Serializable",
    }
    for name, value in properties.items():
        builder = builder.property(name, value)
    if partition is not None:
        builder = builder.partitionedBy(partition)
    try:
        builder.execute()
    except JAVA_ERRORS:
        if _is_made_by_another(spark, uri):
            return
        if not _remove_begun_log(spark, uri):
            raise
        builder.execute()


def _is_made_by_another(spark: SparkSession, uri: str) -> bool:
    """Whether another process, which has begun the table's log, finishes the table in time."""
    deadline = time.monotonic() + _CREATION_SECONDS
    while True:
        names = list_times(spark, uri).keys()
        if table_version(spark, uri) >= 0:  # isDeltaTable would answer from what it saw before
            return True
        if names != {_LOG_FOLDER} or time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def _remove_begun_log(spark: SparkSession, uri: str) -> bool:
    """Remove the log of a process that died before it had made the table; whether there was one.

    Only an empty folder can be removed: a commit that comes at this moment stays.
    """
    log_folder = f"{uri}/{_LOG_FOLDER}"
    if list_times(spark, uri).keys() != {_LOG_FOLDER}:
        return False
    for name in list_times(spark, log_folder):
        if name.startswith(".") and name.endswith((".tmp", ".crc")):
            delete_file(spark, f"{log_folder}/{name}")
    if list_times(spark, log_folder):
        return False
    delete_file(spark, log_folder)
    log.info("Removed %s, which was begun and is empty", log_folder)
    return True


def _properties(schema: StructType, partition: str | None) -> dict[str, str]:
    """What tables are given when they are made, or upgraded to this version."""
    told = [
        column.name
        for column in schema
        if column.name not in {*UNTOLD, partition}
        and not isinstance(column.dataType, ArrayType | MapType)
    ]
    return {
        SCHEMA_VERSION_PROPERTY: str(SCHEMA_VERSION),
        "delta.dataSkippingStatsColumns": ",".join(told),
        # As long as VACUUM keeps files: older versions can't be read anyway.
        "delta.logRetentionDuration": "interval 7 days",
        # Commits between checkpoints: Spark takes seconds of the cores that caption for one, and
        # a reader hardly notices a hundred entries. `maintain_tables` makes one each time.
        "delta.checkpointInterval": "100",
        # Data files in folders of two letters: one named by its partition, as is Delta's habit,
        # can't be made for a batch whose name takes more than 255 bytes.
        "delta.randomizeFilePrefixes": "true",
    }


def _upgrade(spark: SparkSession, uri: str, schema: StructType, partition: str | None) -> None:
    """Add the columns that an older version lacked, then say that the table is of this version.

    Killed in between, it is done again. Where another process upgrades at once, both may win.
    """
    try:
        _add_columns(spark, uri, schema)
        wanted = _properties(schema, partition)
        values = ", ".join(f"'{name}' = '{value}'" for name, value in wanted.items())
        table = uri.replace("`", "``")
        spark.sql(f"ALTER TABLE delta.`{table}` SET TBLPROPERTIES ({values})")
    except JAVA_ERRORS as error:
        if (
            not is_conflict(error)
            or _version_of(table_metadata(spark, uri).properties) != SCHEMA_VERSION
        ):
            raise
    log.info("%s was upgraded to schema version %d", uri, SCHEMA_VERSION)


def _add_columns(spark: SparkSession, uri: str, schema: StructType) -> None:
    if set(schema.names) <= set(table_metadata(spark, uri).columns.names):
        return
    nothing = spark.createDataFrame([], schema).write.format("delta").mode("append")
    nothing.option("mergeSchema", "true").save(uri)


def _refuse_strangers(spark: SparkSession, uri: str) -> None:
    """Raise LakeError where a folder holds files but no Delta table.

    An empty log, or a table by now, is another process's that makes the same table.
    """
    if list_times(spark, uri).keys() - {_LOG_FOLDER} and table_version(spark, uri) < 0:
        raise LakeError(f"{uri} holds files that are no Delta table.", remedy=_OTHER_LAKE)


def _version_of(properties: Mapping[str, str]) -> int | None:
    version = properties.get(SCHEMA_VERSION_PROPERTY, "")
    known = version.isdecimal() and properties.get(BATCH_DEPTH_PROPERTY, "").isdecimal()
    return int(version) if known else None


def _check_version(uri: str, properties: Mapping[str, str]) -> int:
    """Return the table's version; raise LakeError for one that this software doesn't know."""
    version = _version_of(properties)
    if version is None:
        raise LakeError(f"{uri} is a Delta table of another software.", remedy=_OTHER_LAKE)
    if version > SCHEMA_VERSION:
        raise LakeError(
            f"{uri} has schema version {version}, and this software knows {SCHEMA_VERSION}.",
            remedy="Update this software, or give --lake another folder.",
        )
    return version


def _check_columns(
    uri: str, found: StructType, expected: StructType, *, may_lack: bool = False
) -> None:
    """Raise LakeError unless the table has all expected columns; others are left alone."""
    if wrong := _unlike(found, expected, may_lack=may_lack):
        raise LakeError(
            f"{uri} has another schema: column {', '.join(wrong)} is missing or of another type.",
            remedy=_OTHER_LAKE,
        )


def _unlike(found: StructType, expected: StructType, *, may_lack: bool = False) -> list[str]:
    """Return the expected columns that are missing or of another type."""
    kinds = {field.name: field.dataType for field in found}
    return [
        field.name
        for field in expected
        if (field.name in kinds or not may_lack) and kinds.get(field.name) != field.dataType
    ]
