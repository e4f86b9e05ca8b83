"""Rows of a lake's tables for the driver's own questions: what is pending, known, committed.

A new session takes seconds for its first query over a Delta table, most of them on one core;
delta-rs answers in hundredths. It is asked where it reaches the table as Hadoop's client does and
the table is not vast; Spark is asked everywhere else, and wherever delta-rs fails.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import reduce
from threading import Thread
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.delta_log import table_version
from storage.hadoop import reported_as
from storage.hdfs_address import hdfs_address
from storage.paths import is_local
from storage.without_spark import as_url

MOST_SECONDS = 60  # for an answer of delta-rs; it may wait for ever for a server that is dead
MOST_ROWS = 20_000_000  # of a table; beyond, the cluster's executors read sooner than one machine
# What both engines read alike between quotes; a folder of photographs may be named otherwise.
_PLAIN = re.compile(r"[\w .:+=/@-]*", re.ASCII)

_given_up: set[str] = set()  # tables of which there was no answer in time

Condition = Mapping[str, Collection[str]]
log = logging.getLogger("captionlake")


class Rows(NamedTuple):
    """Rows of a table as of a version of it (or of a later one, where Spark read them)."""

    version: int
    table: pa.Table


def read_rows(
    spark: SparkSession,
    uri: str,
    schema: pa.Schema,
    *alternatives: Condition,
    expressions: Mapping[str, str] | None = None,
) -> Rows:
    """Return the rows of a Delta table that meet one of the conditions.

    Args:
        spark: the session, whose configuration says how to reach the table.
        uri: qualified path of the table.
        schema: the columns to return and their types.
        alternatives: for each column that a condition names, the values of which one is needed.
        expressions: SQL that both engines understand, for columns that the table doesn't have.

    Raises:
        LakeError: the table can't be read.
    """
    made = expressions or {}
    columns = [f"{made[name]} AS {name}" if name in made else name for name in schema.names]
    with reported_as(LakeError, f"Can't read {uri}"):
        found = _by_delta_rs(spark, uri, columns, alternatives)
        if found is None:
            found = _by_spark(spark, uri, columns, alternatives)
    return Rows(found.version, found.table.cast(schema))


def _by_delta_rs(
    spark: SparkSession, uri: str, columns: Sequence[str], alternatives: Sequence[Condition]
) -> Rows | None:
    """Return None where Spark must be asked."""
    wanted = _as_sql(alternatives)
    if wanted is None or uri in _given_up:
        return None
    options = _options(spark, uri)
    if options is None:
        return None
    query = f"SELECT {', '.join(columns)} FROM rows WHERE {wanted}"  # noqa: S608  # plain text
    answer: Future[Rows | None] = Future()

    def ask() -> None:
        try:
            answer.set_result(_query(uri, options, query))
        except BaseException as error:  # noqa: BLE001  # its panics are no Exception
            log.debug("Spark reads %s, since delta-rs can't: %s", uri, error)
            answer.set_result(None)

    # A daemon: one that waits for a dead server must not keep the process from ending.
    Thread(target=ask, daemon=True, name="delta-rs").start()
    try:
        return answer.result(timeout=MOST_SECONDS)
    except TimeoutError:
        log.warning("Spark reads %s, since delta-rs had no answer in %d s", uri, MOST_SECONDS)
        _given_up.add(uri)
        return None


def _query(uri: str, options: dict[str, str], query: str) -> Rows | None:
    """Return the query's answer; None from a vast table."""
    table = DeltaTable(as_url(uri), storage_options=options)
    files: Any = pa.table(table.get_add_actions())
    if (pc.sum(files["num_records"]).as_py() or 0) > MOST_ROWS:
        return None
    found = QueryBuilder().register("rows", table).execute(query)
    # Not through Arrow's reader, whose threads call Python.
    return Rows(table.version(), pa.RecordBatchReader.from_stream(found).read_all())


def _by_spark(
    spark: SparkSession, uri: str, columns: Sequence[str], alternatives: Sequence[Condition]
) -> Rows:
    version = table_version(spark, uri)
    table = spark.read.format("delta").load(uri)
    return Rows(version, table.where(_as_column(alternatives)).selectExpr(*columns).toArrow())


def _options(spark: SparkSession, uri: str) -> dict[str, str] | None:
    """Return how delta-rs reaches a path; None if only Hadoop's client does."""
    if is_local(uri):
        return {}
    # On HDFS its paths are decoded twice: "%20" would be another folder's name.
    address = None if "%" in uri else hdfs_address(spark, [uri])
    return None if address is None else dict(address.configuration)


def _as_sql(alternatives: Sequence[Condition]) -> str | None:
    """Return the conditions as SQL; None where a value could be read as something else."""
    values = [v for condition in alternatives for known in condition.values() for v in known]
    if not all(_PLAIN.fullmatch(value) for value in values):
        return None
    terms = [
        " AND ".join(_is_among(name, known) for name, known in condition.items())
        for condition in alternatives
    ]
    return " OR ".join(f"({term})" for term in terms)


def _is_among(name: str, values: Collection[str]) -> str:
    quoted = ", ".join(f"'{value}'" for value in values)
    return f"{name} IN ({quoted})" if values else "FALSE"


def _as_column(alternatives: Sequence[Condition]) -> Column:
    terms = [
        reduce(Column.__and__, (F.col(name).isin([*known]) for name, known in condition.items()))
        for condition in alternatives
    ]
    return reduce(Column.__or__, terms)
