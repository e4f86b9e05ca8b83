"""Data files of a Delta table, written without Spark.

The first file that a new session's Spark writes costs three seconds of processor time, and each
later one a third of a second; Arrow needs some milliseconds. What is written here is no part of the
table before a commit names it (`storage.delta_log`).
"""

from __future__ import annotations

import json
import logging
import random
import string
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from storage.hadoop import file_creator, one_line

PAUSES_SECONDS = (2.0, 4.0)  # before a file is tried again, for all files that are written at once

# As Delta keeps of a text: 32 characters, and after them, of the greatest, one that sorts later.
_TOLD_CHARACTERS = 32
_LAST_ASCII, _LAST_CHARACTER = "\x7f", "\U0010ffff"

log = logging.getLogger("captionlake")


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
        Py4JJavaError: the file system fails, also when a file is tried again.
    """
    create = file_creator(spark, uri)
    pauses = iter(PAUSES_SECONDS)
    told_names = [name for name in rows.column_names if name in told]
    file_names = [*(name for name in rows.column_names if name != partition), partition]
    actions = []
    for value in rows[partition].unique().to_pylist():
        content = rows.filter(pc.equal(rows[partition], value))
        data = as_parquet(content.select(file_names), spark_version=spark.version)
        actions.append(
            {
                "path": _create_patiently(create, data, pauses),
                "partitionValues": {partition: value or None},  # as Spark: no name is none
                "size": len(data),
                "modificationTime": int(time.time() * 1000),
                "dataChange": True,
                "tags": None,
                "stats": json.dumps(statistics(content.select(told_names))),
            }
        )
    return actions


def _create_patiently(
    create: Callable[[str, bytes], None], data: bytes, pauses: Iterator[float]
) -> str:
    """Write a file and return its path, a new one for each try: nobody names what a try left."""
    while True:
        # A folder of two letters, as the table's property `delta.randomizeFilePrefixes` has it.
        folder = "".join(random.choices(string.ascii_letters + string.digits, k=2))  # noqa: S311
        path = f"{folder}/part-00000-{uuid4()}-c000.snappy.parquet"
        try:
            create(path, data)
        except Py4JJavaError as error:
            pause = next(pauses, None)
            if pause is None:
                raise
            log.warning("A data file can't be written; trying again: %s", one_line(error))
            time.sleep(pause)
        else:
            return path


def as_parquet(rows: pa.Table, *, spark_version: str) -> bytes:
    """Return the rows as a Parquet file, whose times Spark takes for those of today's calendar.

    Of a file that doesn't name the Spark it is from, it would ask its configuration which calendar
    holds before 1900.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"org.apache.spark.version": spark_version})
    return bytes(sink.getvalue().to_pybytes())


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
    """Whether the column has a range that JSON can hold: nulls have none, nor what is no number."""
    is_real = pa.types.is_floating(column.type)
    return least is not None and (not is_real or pc.all(pc.is_finite(column)).as_py())


def _at_least(value: Any) -> Any:
    if isinstance(value, datetime):  # Delta's readers know that it is cut off there
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value[:_TOLD_CHARACTERS] if isinstance(value, str) else value


def _at_most(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _TOLD_CHARACTERS:
        return _at_least(value)
    following = value[_TOLD_CHARACTERS]
    last = _LAST_ASCII if following < _LAST_ASCII else _LAST_CHARACTER
    return value[:_TOLD_CHARACTERS] + last if following < last else value
