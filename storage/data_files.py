"""Data files of a Delta table, written without Spark.

The first file that a new session's Spark writes costs three seconds of processor time, and each
later one a third of a second; Arrow needs some milliseconds. What is written here is no part of the
table before a commit names it (`storage.delta_log`).
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from storage.hadoop import create_file

# As Delta keeps of a text: 32 characters, and after them, of the greatest, one that sorts later.
_TOLD_CHARACTERS = 32
_LAST_ASCII, _LAST_CHARACTER = "\x7f", "\U0010ffff"


def write_data_files(
    spark: SparkSession, uri: str, rows: pa.Table, *, partition: str, told: Collection[str]
) -> list[dict[str, Any]]:
    """Write one Parquet file for each value of the partition column.

    Args:
        spark: the session whose Hadoop client writes.
        uri: qualified path of the table.
        rows: the table's columns in their Arrow types; times in microseconds, UTC.
        partition: the column by which the table is partitioned; no null in it.
        told: columns whose smallest and greatest value and count of nulls Delta's log is to know;
            of whole numbers, reals, texts and times.

    Returns:
        What Delta's protocol calls an `add` action, for each file.

    Raises:
        Py4JJavaError: the file system fails.
    """
    return [
        _write(spark, uri, rows.filter(pc.equal(rows[partition], value)), partition, told)
        for value in rows[partition].unique().to_pylist()
    ]


def _write(
    spark: SparkSession, uri: str, rows: pa.Table, partition: str, told: Collection[str]
) -> dict[str, Any]:
    value = rows[partition][0].as_py()
    columns = rows.select([column for column in rows.column_names if column in told])
    last = [*(column for column in rows.column_names if column != partition), partition]
    sink = pa.BufferOutputStream()
    pq.write_table(rows.select(last), sink, store_schema=False)
    data = sink.getvalue().to_pybytes()
    # A folder of two letters, as the table's property `delta.randomizeFilePrefixes` has it.
    folder = "".join(random.choices(string.ascii_letters + string.digits, k=2))  # noqa: S311
    name = f"{folder}/part-00000-{uuid4()}-c000.snappy.parquet"
    create_file(spark, f"{uri}/{name}", data)
    return {
        "path": name,
        "partitionValues": {partition: value or None},  # as Spark: no name is none
        "size": len(data),
        "modificationTime": int(time.time() * 1000),
        "dataChange": True,
        "tags": None,
        "stats": statistics(columns),
    }


def statistics(columns: pa.Table) -> dict[str, Any]:
    """Return what Delta's log tells of a data file, so that readers can leave it out."""
    ranges = {name: pc.min_max(columns[name]).as_py() for name in columns.column_names}
    known = {name: ends for name, ends in ranges.items() if _is_told(columns[name], ends["min"])}
    return {
        "numRecords": columns.num_rows,
        "minValues": {name: _at_least(ends["min"]) for name, ends in known.items()},
        "maxValues": {name: _at_most(ends["max"]) for name, ends in known.items()},
        "nullCount": {name: columns[name].null_count for name in columns.column_names},
    }


def _is_told(column: pa.ChunkedArray, least: Any) -> bool:
    """Whether the column has a range: all nulls have none, and what is no number is in none."""
    is_real = pa.types.is_floating(column.type)
    return least is not None and not (is_real and pc.any(pc.is_nan(column)).as_py())


def _at_least(value: Any) -> Any:
    if isinstance(value, datetime):  # Delta's readers know that milliseconds are cut off
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value[:_TOLD_CHARACTERS] if isinstance(value, str) else value


def _at_most(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _TOLD_CHARACTERS:
        return _at_least(value)
    is_plain = value[_TOLD_CHARACTERS] < _LAST_ASCII
    return value[:_TOLD_CHARACTERS] + (_LAST_ASCII if is_plain else _LAST_CHARACTER)
