"""Delta's transaction, used directly: the only code that leaves Delta's public API.

A commit whose rows are known to be new needs no look at the table, only the certainty that nobody
else has added rows to its batches meanwhile. Delta's public writers can't say "commit if nothing
came between" without replaying the table's log first, which costs five times the commit and grows
with the table; its transaction can (docs/decisions has the measurements).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from storage.hadoop import JAVA_ERRORS, file_system, hadoop_path, is_java_error, jvm

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
    return any(is_java_error(error, name) for name in _CONFLICTS)


def table_version(spark: SparkSession, uri: str) -> int:
    """Return the present version of a Delta table."""
    none = jvm(spark).scala.Option.empty()
    return int(_delta_log(spark, uri).update(False, none, none).version())


def stage_rows(rows: DataFrame, uri: str) -> Any:
    """Write the rows as data files of the table that no reader sees before `commit_staged`."""
    transaction = _delta_log(rows.sparkSession, uri).startTransaction()
    return transaction.writeFiles(rows._jdf)


def commit_staged(
    spark: SparkSession, uri: str, staged: Any, *, may_follow: Callable[[int], bool]
) -> int | None:
    """Commit staged rows, unless what was committed meanwhile may hold the same keys.

    Args:
        spark: the session.
        uri: path of the table.
        staged: what `stage_rows` returned.
        may_follow: is given the version to build on, and says whether the rows are new to it.

    Returns:
        The version that holds the rows, or None if `may_follow` declined.

    Raises:
        Py4JJavaError: a conflict (`is_conflict`): something was committed in between.
    """
    transaction = _delta_log(spark, uri).startTransaction()
    if not may_follow(int(transaction.readVersion())):
        return None
    transaction.readWholeTable()  # so that whatever comes between is a conflict
    return int(transaction.commit(staged, _append_operation(spark)))


def adds_rows(spark: SparkSession, uri: str, version: int, batches: Collection[str]) -> bool:
    """Whether a version may have added rows to one of the batches, or changed the table itself.

    A version whose log entry is gone counts as one that did.
    """
    entry = f"{uri}/_delta_log/{version:020d}.json"
    try:
        stream = file_system(spark, entry).open(hadoop_path(spark, entry))
    except JAVA_ERRORS as error:
        if is_java_error(error, "FileNotFoundException"):
            return True
        raise
    try:
        lines = bytes(stream.readAllBytes()).decode("utf-8").splitlines()
    finally:
        stream.close()
    return any(_touches(json.loads(line), batches) for line in lines if line)


def _touches(action: dict[str, Any], batches: Collection[str]) -> bool:
    if "add" in action:
        added = action["add"]
        return bool(added["dataChange"]) and added["partitionValues"].get("batch") in batches
    return "metaData" in action or "protocol" in action


def _delta_log(spark: SparkSession, uri: str) -> Any:
    return jvm(spark).org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, uri)


def _append_operation(spark: SparkSession) -> Any:
    java = jvm(spark)
    write = getattr(java.org.apache.spark.sql.delta, "DeltaOperations$Write")
    return write(java.org.apache.spark.sql.SaveMode.Append, *[java.scala.Option.empty()] * 8)
