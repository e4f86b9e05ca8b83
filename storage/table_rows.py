"""Rows of a lake's tables for the driver's own questions: what is pending, known, committed.

A new session takes seconds for its first query over a Delta table, most of them on one core;
delta-rs answers in hundredths. It is asked where it reaches the table as Hadoop's client does and
the table is not vast; Spark is asked everywhere else, and wherever delta-rs fails.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import reduce
from threading import Thread
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.abandoned import abandon, is_abandoned
from storage.delta_log import table_version
from storage.hadoop import reported_as
from storage.hdfs_address import hdfs_address
from storage.paths import is_local
from storage.without_spark import as_url, query_rows

MOST_SECONDS = 30  # for an answer of delta-rs; it may wait for ever for a server that is dead
MOST_ROWS = 10_000_000  # of a table; beyond, the cluster's executors read sooner than one machine
MOST_LITERALS = 2_500  # DataFusion descends into a list of many until its stack overflows
BLOCK_ROWS = 500_000
# What both engines read alike between quotes; a folder of photographs may be named otherwise.
_PLAIN = re.compile(r"[\w .:+=/@-]*", re.ASCII)

Condition = Mapping[str, Collection[str]]
log = logging.getLogger("captionlake")


class Rows(NamedTuple):
    """Rows of a table as of a version of it (or of a later one, where Spark read them)."""

    version: int
    table: pa.Table


@dataclass(frozen=True)
class Wanted:
    """What to read of a table.

    Attributes:
        schema: the columns and their types.
        alternatives: a row must meet one of these conditions.
        among: name and values of a column; rows with another value are left out. Of these there
            may be millions, of values of a condition some thousands.
        expressions: SQL that both engines understand, for columns that the table doesn't have.
    """

    schema: pa.Schema
    alternatives: Sequence[Condition]
    among: tuple[str, pa.ChunkedArray | pa.Array] | None = None
    expressions: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns as SQL."""
        made = self.expressions
        return [f"{made[n]} AS {n}" if n in made else n for n in self.schema.names]

    def keep(self, rows: pa.Table) -> pa.Table:
        """Return those of the rows that `among` lets through, in the wanted types."""
        rows = rows.cast(self.schema)
        if self.among is None:
            return rows
        name, values = self.among
        return rows.filter(pc.is_in(rows[name], values))


def read_rows(spark: SparkSession, uri: str, wanted: Wanted) -> Rows:
    """Return rows of the Delta table at a qualified path.

    Raises:
        LakeError: the table can't be read.
    """
    with reported_as(LakeError, f"Can't read {uri}"):
        found = _by_delta_rs(spark, uri, wanted)
        return _by_spark(spark, uri, wanted) if found is None else found


def _by_delta_rs(spark: SparkSession, uri: str, wanted: Wanted) -> Rows | None:
    """Return None where Spark must be asked."""
    condition = _as_sql(wanted.alternatives)
    if condition is None or is_abandoned(uri):
        return None
    options = _options(spark, uri)
    if options is None:
        return None
    answer: Future[Rows | None] = Future()

    def ask() -> None:
        try:
            answer.set_result(_query(uri, options, wanted, condition))
        except BaseException as error:  # noqa: BLE001  # its panics are no Exception
            log.debug("Spark reads %s, since delta-rs can't: %s", uri, error)
            answer.set_result(None)

    # A daemon: one that waits for a dead server must not keep the process from ending.
    Thread(target=ask, daemon=True, name="delta-rs").start()
    try:
        return answer.result(timeout=MOST_SECONDS)
    except TimeoutError:
        log.warning("Spark reads %s, since delta-rs had no answer in %d s", uri, MOST_SECONDS)
        abandon(uri)
        return None


def _query(uri: str, options: dict[str, str], wanted: Wanted, condition: str) -> Rows | None:
    """Return delta-rs's answer; None from a vast table."""
    table = DeltaTable(as_url(uri), storage_options=options)
    files: Any = pa.table(table.get_add_actions())
    if (pc.sum(files["num_records"]).as_py() or 0) > MOST_ROWS:
        return None
    query = f"SELECT {', '.join(wanted.columns)} FROM rows WHERE {condition}"  # noqa: S608
    kept = [wanted.keep(block) for block in _blocks(query_rows(table, query), wanted)]
    return Rows(table.version(), pa.concat_tables(kept) if kept else wanted.schema.empty_table())


def _blocks(reader: pa.RecordBatchReader, wanted: Wanted) -> Iterator[pa.Table]:
    """Yield what is read in parts so large that looking through `among` is worth its index."""
    most = max(BLOCK_ROWS, len(wanted.among[1]) if wanted.among else 0)
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= most:
            yield pa.Table.from_batches(gathered)
            gathered, rows = [], 0
    if gathered:
        yield pa.Table.from_batches(gathered)


def _by_spark(spark: SparkSession, uri: str, wanted: Wanted) -> Rows:
    version = table_version(spark, uri)
    table = spark.read.format("delta").load(uri)
    rows = table.where(_as_column(wanted.alternatives)).selectExpr(*wanted.columns)
    if wanted.among is not None:
        name, values = wanted.among
        rows = rows.join(spark.createDataFrame(pa.table({name: values})), name, "left_semi")
    return Rows(version, rows.select(*wanted.schema.names).toArrow().cast(wanted.schema))


def _options(spark: SparkSession, uri: str) -> dict[str, str] | None:
    """Return how delta-rs reaches a path; None if only Hadoop's client does."""
    if "%" in uri or "\\" in uri:  # it decodes paths twice, and takes the other for a slash
        return None
    if is_local(uri):
        return {}
    address = hdfs_address(spark, [uri])
    if address is None or address.user != _own_user():
        return None
    return dict(address.configuration)


def _own_user() -> str:
    """Return whom an HDFS takes this process's clients for."""
    try:
        return os.environ.get("HADOOP_USER_NAME") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return ""


def _as_sql(alternatives: Sequence[Condition]) -> str | None:
    """Return the conditions as SQL; None where a value could be read as something else."""
    values = [v for condition in alternatives for known in condition.values() for v in known]
    if len(values) > MOST_LITERALS or not all(_PLAIN.fullmatch(value) for value in values):
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
