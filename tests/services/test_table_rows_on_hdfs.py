"""What a run asks of its lake's tables on a real HDFS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn
from uuid import uuid4

import pyarrow as pa
import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from storage import table_rows
from storage.table_rows import Wanted, read_rows
from tests.services.hdfs_daemons import Hdfs

SCHEMA = pa.schema([("size", pa.int64())])


@pytest.fixture
def folder(spark: SparkSession, hdfs: Hdfs) -> Iterator[str]:
    """The path, without authority, of a folder with Delta tables of three names."""
    path = f"/{uuid4().hex}"
    for size, name in enumerate(("a b", "a%20b", "é日")):
        frame = spark.range(size, size + 1).selectExpr("'here' AS name", "id AS size")
        frame.write.format("delta").save(f"{hdfs.uri}{path}/{name}")
    yield path
    InsecureClient(hdfs.web_uri, user="root").delete(path, recursive=True)


def refuse(*_: object) -> NoReturn:
    raise AssertionError("Spark was asked")


def sizes(spark: SparkSession, uri: str) -> list[int]:
    found = read_rows(spark, uri, Wanted(SCHEMA, [{"name": ["here"]}]))
    assert found.version == 0
    return list(found.table["size"].to_pylist())


def test_every_name_is_its_own_tables(spark: SparkSession, hdfs: Hdfs, folder: str) -> None:
    for size, name in enumerate(("a b", "a%20b", "é日")):
        assert sizes(spark, f"{hdfs.uri}{folder}/{name}") == [size]


def test_a_table_on_hdfs_is_read_without_spark(
    spark: SparkSession, hdfs: Hdfs, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rows, "_by_spark", refuse)
    assert sizes(spark, f"{hdfs.uri}{folder}/a b") == [0]
    assert sizes(spark, f"{hdfs.uri}{folder}/é日") == [2]


def test_a_nameservice_of_the_sessions_configuration_is_found(
    spark: SparkSession, nameservice: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rows, "_by_spark", refuse)
    assert sizes(spark, f"{nameservice}{folder}/a b") == [0]
