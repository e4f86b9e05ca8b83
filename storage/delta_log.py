"""Delta's transaction, used directly: the only code that leaves Delta's public API.

A commit whose rows are known to be new needs no look at the table, only the certainty that nobody
else has added rows to its batches meanwhile. Delta's public writers can't say "commit if nothing
came between" without replaying the table's log first, which costs five times the commit and grows
with the table; its transaction can (docs/decisions has the measurements).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import AtomicType, StructType

from storage.data_files import write_data_files
from storage.hadoop import is_java_error, java_class, read_text

_DELTA = "org.apache.spark.sql.delta"
_PLAIN_WRITER_VERSION = 2  # of Delta's protocol: beyond it, features change how a table is written
_ENCRYPTION = "parquet.crypto.factory.class"  # of Hadoop's configuration; Spark's files heed it
_TOLD_PROPERTY = "delta.dataSkippingStatsColumns"

_CONFLICTS = (
    "ConcurrentAppendException",
    "ConcurrentDeleteReadException",
    "ConcurrentDeleteDeleteException",
    "ConcurrentTransactionException",
    "ConcurrentWriteException",
    "MetadataChangedException",
    "ProtocolChangedException",
)


def is_conflict(error: BaseException) -> bool:
    """Whether another commit came between; trying again may succeed."""
    # Delta's Python package turns the JVM's exception into its own of the same name.
    return any(type(error).__name__ == name or is_java_error(error, name) for name in _CONFLICTS)


def table_version(spark: SparkSession, uri: str) -> int:
    """Return the present version of a Delta table."""
    return int(_snapshot(spark, uri).version())


class Metadata(NamedTuple):
    """What a Delta table's log says of the table."""

    properties: dict[str, str]
    columns: StructType
    partitions: list[str]


def table_metadata(spark: SparkSession, uri: str) -> Metadata:
    """Return what a Delta table's log says of the table.

    `DeltaTable.detail` counts the table's files for it, which takes a new session seconds.
    """
    return _metadata(_snapshot(spark, uri))


def write_checkpoint(spark: SparkSession, uri: str) -> None:
    """Sum the log up in one file, and delete what is older than the table keeps its log."""
    _delta_log(spark, uri).checkpoint()


def stage_rows(spark: SparkSession, uri: str, rows: pa.Table, schema: StructType) -> Any:
    """Write the rows as data files of the table that no reader sees before `commit_staged`.

    Args:
        spark: the session.
        uri: qualified path of the table.
        rows: the columns of `schema`.
        schema: the columns of this software's table.
    """
    snapshot = _snapshot(spark, uri)
    metadata = _metadata(snapshot)
    told = _told_columns(snapshot, metadata, schema)
    if told is None or spark._jsc.hadoopConfiguration().get(_ENCRYPTION) is not None:
        frame = spark.createDataFrame(rows, schema).coalesce(1)
        return _delta_log(spark, uri).startTransaction().writeFiles(frame._jdf)
    rows = rows.cast(to_arrow_schema(schema, timezone="UTC"))
    (partition,) = metadata.partitions
    files = write_data_files(spark, uri, rows, partition=partition, told=told)
    action = java_class(spark, f"{_DELTA}.actions.Action")
    return _as_scala(spark, (action.fromJson(json.dumps({"add": file})) for file in files))


def _told_columns(snapshot: Any, metadata: Metadata, schema: StructType) -> frozenset[str] | None:
    """Return the columns that the log tells of; None where only Spark knows how to write the table.

    That is a table to which somebody gave other columns, conditions on them, or one of the features
    that change what a writer must do: renamed columns, constraints, a feed of changes.
    """
    properties, found, partitions = metadata
    if (
        snapshot.protocol().minWriterVersion() > _PLAIN_WRITER_VERSION
        or [(one.name, one.dataType, one.nullable) for one in found]
        != [(one.name, one.dataType, one.nullable) for one in schema]
        or any(set(one.metadata) - {"comment"} for one in found)
        or len(partitions) != 1
        or _TOLD_PROPERTY not in properties
    ):
        return None
    told = frozenset(properties[_TOLD_PROPERTY].split(","))
    can_be_told = {one.name for one in schema if isinstance(one.dataType, AtomicType)}
    return told if told <= can_be_told - {*partitions} else None


def commit_staged(
    spark: SparkSession,
    uri: str,
    staged: Any,
    *,
    may_follow: Callable[[int], bool],
    instead_of: Any = None,
) -> int | None:
    """Commit staged rows, unless what was committed meanwhile may hold the same keys.

    Args:
        spark: the session.
        uri: path of the table.
        staged: what `stage_rows` returned.
        may_follow: is given the version to build on, and says whether the rows are new to it.
        instead_of: what `stage_rows` returned for the rows that these replace.

    Returns:
        The version that holds the rows, or None if `may_follow` declined.

    Raises:
        Py4JJavaError: a conflict (`is_conflict`): something was committed in between.
    """
    transaction = _delta_log(spark, uri).startTransaction()
    if not may_follow(int(transaction.readVersion())):
        return None
    transaction.readWholeTable()  # so that whatever comes between is a conflict
    actions = staged
    if instead_of is not None:
        actions = staged.appendedAll(_removals(spark, instead_of))
    return int(transaction.commit(actions, _append_operation(spark)))


def batches_added(spark: SparkSession, uri: str, version: int) -> frozenset[str] | None:
    """Return the batches to which a version may have added rows.

    None stands for any batch: the version changed the table itself, or its log entry is gone.
    """
    actions = _actions(spark, uri, version)
    if actions is None:
        return None
    added = [action["add"] for action in actions if "add" in action]
    return frozenset(add["partitionValues"].get("batch") for add in added if add["dataChange"])


def partitions_touched(
    spark: SparkSession, uri: str, version: int, *, column: str
) -> frozenset[str] | None:
    """Return the values of a partition column whose data files a version added or removed.

    None stands for any value, as in `batches_added`.
    """
    actions = _actions(spark, uri, version)
    if actions is None:
        return None
    files = [action.get("add") or action.get("remove") for action in actions]
    values = [file.get("partitionValues") for file in files if file]
    return None if None in values else frozenset(value.get(column) for value in values)


def _actions(spark: SparkSession, uri: str, version: int) -> list[dict[str, Any]] | None:
    """Return what a version did; None if it changed the table itself, or its entry is gone."""
    text = read_text(spark, f"{uri}/_delta_log/{version:020d}.json")
    if text is None:
        return None
    actions = [json.loads(line) for line in text.splitlines() if line]
    is_changed = any("metaData" in action or "protocol" in action for action in actions)
    return None if is_changed else actions


def _removals(spark: SparkSession, files: Any) -> Any:
    """Return, as a Scala list, what takes data files out of the table."""
    return _as_scala(spark, (files.apply(number).remove() for number in range(files.size())))


def _as_scala(spark: SparkSession, actions: Iterable[Any]) -> Any:
    """Return Java objects as a Scala list."""
    listed = java_class(spark, "java.util.ArrayList")()
    for action in actions:
        listed.add(action)
    converters = java_class(spark, "scala.jdk.javaapi.CollectionConverters")
    return converters.asScala(listed).toList()


def _metadata(snapshot: Any) -> Metadata:
    """Return a snapshot's metadata, in one trip to the JVM."""
    told = json.loads(snapshot.metadata().json())["metaData"]
    columns = StructType.fromJson(json.loads(told["schemaString"]))
    return Metadata(told["configuration"], columns, told["partitionColumns"])


def _snapshot(spark: SparkSession, uri: str) -> Any:
    none = java_class(spark, "scala.Option").empty()
    return _delta_log(spark, uri).update(False, none, none)


def _delta_log(spark: SparkSession, uri: str) -> Any:
    return java_class(spark, f"{_DELTA}.DeltaLog").forTable(spark._jsparkSession, uri)


def _append_operation(spark: SparkSession) -> Any:
    write = java_class(spark, f"{_DELTA}.DeltaOperations$Write")
    append = java_class(spark, "org.apache.spark.sql.SaveMode").Append
    return write(append, *[java_class(spark, "scala.Option").empty()] * 8)
