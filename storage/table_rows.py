"""Rows of a lake's tables for the driver's own questions: what is pending, known, committed.

A new session takes seconds for its first query over a Delta table, most of them on one core;
delta-rs answers in hundredths. It is asked where it reaches the table as Hadoop's client does and
the table is not vast; Spark is asked everywhere else, and wherever delta-rs fails.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.delta_log import table_version
from storage.delta_rs import ask_delta_rs
from storage.hadoop import reported_as
from storage.without_spark import query_rows

MOST_ROWS = 10_000_000  # of a table; beyond, the cluster's executors read sooner than one machine
MOST_LITERALS = 2_500  # DataFusion descends into a list of many until its stack overflows
BLOCK_ROWS = 500_000
# What both engines read alike between quotes; a folder of photographs may be named otherwise.
_PLAIN = re.compile(r"[\w .:+=/@-]*", re.ASCII)

Condition = Mapping[str, Collection[str]]


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
    if condition is None:
        return None
    return ask_delta_rs(spark, uri, lambda table: _query(table, wanted, condition))


def _query(table: DeltaTable, wanted: Wanted, condition: str) -> Rows | None:
    """Return delta-rs's answer; None from a vast table."""
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
