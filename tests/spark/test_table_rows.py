"""Rows for the driver's own questions: delta-rs and Spark give the same, and one stands in."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from delta.tables import DeltaTable
from deltalake import DeltaTable as RustTable
from pyspark.sql import SparkSession

from conf.errors import LakeError
from storage import delta_rs, table_rows
from storage.table_rows import Rows, Wanted, read_rows

SCHEMA = pa.schema([("batch", pa.string()), ("name", pa.string()), ("size", pa.int32())])
PLAIN = ["2026-11-23", "a b", "x=y/z", "10:20+@_.-"]
ODD = ["it's", 'a"b', "back\\slash", "100%", "%20", "é日", "x' OR '1'='1", "\\' OR 1=1 --", "a;b"]


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Delta table with a partition per batch, three rows in each."""
    uri = f"file:{tmp_path_factory.mktemp('a table')}/a b é"
    rows = [(batch, name, len(name)) for batch in PLAIN + ODD for name in ("a", "bb", "ccc")]
    frame = spark.createDataFrame(rows, "batch string, name string, size int").coalesce(1)
    writer = frame.write.format("delta").partitionBy("batch")
    writer.option("delta.randomizeFilePrefixes", "true").save(uri)
    return uri


@pytest.fixture
def delta_rs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any) -> Rows:
        raise AssertionError("Spark was asked")

    monkeypatch.setattr(table_rows, "_by_spark", ask)


@pytest.fixture
def asked_of_spark(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that Spark was asked for."""
    asked: list[str] = []
    original = table_rows._by_spark

    def ask(spark: SparkSession, uri: str, *rest: Any) -> Rows:
        asked.append(uri)
        return original(spark, uri, *rest)

    monkeypatch.setattr(table_rows, "_by_spark", ask)
    return asked


@pytest.fixture
def time_kind(spark: SparkSession, kind: str) -> Iterator[None]:
    """Times in Spark's Parquet files as they are now, or as in older lakes."""
    name = "spark.sql.parquet.outputTimestampType"
    assert spark.conf.get(name) == "TIMESTAMP_MICROS"
    spark.conf.set(name, kind)
    yield
    spark.conf.set(name, "TIMESTAMP_MICROS")


def rows(spark: SparkSession, uri: str, *alternatives: table_rows.Condition) -> list[Any]:
    found = read_rows(spark, uri, Wanted(SCHEMA, alternatives)).table
    assert found.schema.equals(SCHEMA)
    return sorted(tuple(row.values()) for row in found.to_pylist())


@pytest.mark.usefixtures("delta_rs_only")
def test_delta_rs_answers_for_a_table_that_it_reaches(spark: SparkSession, table: str) -> None:
    for batch in PLAIN:
        found = rows(spark, table, {"batch": [batch], "name": ["a", "ccc", "none"]})
        assert found == [(batch, "a", 1), (batch, "ccc", 3)]
    either = rows(spark, table, {"batch": PLAIN[:1], "name": ["a"]}, {"batch": PLAIN[1:2]})
    assert [name for _, name, _ in either] == ["a", "a", "bb", "ccc"]
    assert rows(spark, table, {"batch": []}) == []


def test_a_batch_of_any_name_is_the_one_that_is_found(
    spark: SparkSession, table: str, asked_of_spark: list[str]
) -> None:
    for batch in ODD:
        assert rows(spark, table, {"batch": [batch], "name": ["bb"]}) == [(batch, "bb", 2)]
    assert rows(spark, table, {"batch": ODD, "name": []}) == []
    assert len(asked_of_spark) == len(ODD) + 1


def test_both_engines_return_the_same_rows_of_the_same_version(
    spark: SparkSession, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [{"batch": PLAIN, "name": ["a", "bb"]}, {"name": ["ccc"]}]
    starts = Wanted(
        pa.schema([("start", pa.string()), ("name", pa.string())]),
        wanted,
        among=("name", pa.array(["a", "ccc", "none", "a"])),
        expressions={"start": "substr(batch, 1, 4)"},
    )
    answers = []
    for most_rows in (10**9, 0):
        monkeypatch.setattr(table_rows, "MOST_ROWS", most_rows)
        found = read_rows(spark, table, starts)
        told = sorted(tuple(row.values()) for row in found.table.to_pylist())
        answers.append((found.version, told, rows(spark, table, *wanted)))
    assert answers[0] == answers[1]
    assert len(answers[0][1]) == len(PLAIN) + len(PLAIN + ODD)
    assert len(answers[0][2]) == 2 * len(PLAIN) + len(PLAIN + ODD)


@pytest.mark.usefixtures("delta_rs_only")
def test_a_value_is_looked_for_among_any_number(
    spark: SparkSession, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As literals of a query so many overflow delta-rs's stack, and end the process."""
    many = pa.array([f"name {number}" for number in range(100_000)] + ["bb"])
    wanted = Wanted(SCHEMA, [{"batch": PLAIN}], among=("name", many))
    for block_rows in (500_000, 1):
        monkeypatch.setattr(table_rows, "BLOCK_ROWS", block_rows)
        found = read_rows(spark, table, wanted).table
        assert sorted(found["batch"].to_pylist()) == sorted(PLAIN)
    nothing = Wanted(SCHEMA, [{"batch": PLAIN}], among=("name", pa.array([], pa.string())))
    assert read_rows(spark, table, nothing).table.equals(SCHEMA.empty_table())


def test_a_condition_of_many_values_is_left_to_spark(
    spark: SparkSession, table: str, asked_of_spark: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rows, "MOST_LITERALS", 2)
    assert len(rows(spark, table, {"batch": PLAIN[:2]})) == 6
    assert asked_of_spark == []
    assert len(rows(spark, table, {"batch": PLAIN[:3]})) == 9
    assert asked_of_spark == [table]


@pytest.mark.usefixtures("delta_rs_only", "time_kind")
@pytest.mark.parametrize("kind", ["TIMESTAMP_MICROS", "INT96"])
def test_a_time_of_any_year_is_read_as_spark_wrote_it(spark: SparkSession, tmp_path: Path) -> None:
    years = ("0001-01-01", "1601-01-01", "1969-12-31", "2300-06-01", "9999-12-31")
    written = ", ".join(f"timestamp'{day} 12:34:56.789012'" for day in years)
    frame = spark.sql(f"SELECT 'a' AS name, explode(array({written})) AS time")
    frame.write.format("delta").save(f"file:{tmp_path}/times")
    schema = pa.schema([("time", pa.timestamp("us", "UTC"))])
    found = read_rows(spark, f"file:{tmp_path}/times", Wanted(schema, [{"name": ["a"]}])).table
    told = sorted(str(time) for time in found["time"].to_pylist())
    assert told == [f"{day} 12:34:56.789012+00:00" for day in years]


@pytest.mark.parametrize(("name", "neighbour"), [("a%20b", "a b"), ("x\\y", "x/y")])
def test_no_other_tables_log_is_taken_for_that_of_an_odd_name(
    spark: SparkSession, tmp_path: Path, name: str, neighbour: str
) -> None:
    frame = spark.createDataFrame([("a", "b", 1)], "batch string, name string, size int")
    frame.limit(0).write.format("delta").save(f"file:{tmp_path}/{neighbour}")
    frame.write.format("delta").save(f"file:{tmp_path}/{name}")
    assert rows(spark, f"file:{tmp_path}/{name}", {"batch": ["a"]}) == [("a", "b", 1)]


@pytest.mark.parametrize("failure", [OSError("gone"), BaseException("a panic")])
def test_spark_reads_what_delta_rs_cannot(
    spark: SparkSession,
    table: str,
    asked_of_spark: list[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    def fail(*_: Any) -> Rows:
        raise failure

    monkeypatch.setattr(table_rows, "_query", fail)
    assert len(rows(spark, table, {"batch": PLAIN[:1]})) == 3
    assert asked_of_spark == [table]


def test_rows_that_a_deletion_vector_hides_stay_hidden(
    spark: SparkSession, table: str, tmp_path: Path
) -> None:
    copy = f"file:{tmp_path}/vectors"
    shutil.copytree(table.removeprefix("file:"), tmp_path / "vectors")
    spark.sql(f"ALTER TABLE delta.`{copy}` SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    DeltaTable.forPath(spark, copy).delete("name = 'bb'")
    assert [name for _, name, _ in rows(spark, copy, {"batch": PLAIN[:1]})] == ["a", "ccc"]


def test_a_server_that_never_answers_is_waited_for_once(
    spark: SparkSession,
    table: str,
    asked_of_spark: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits: list[int] = []

    def wait(opened: RustTable, *_: Any) -> Rows:
        waits.append(opened.version())
        time.sleep(2)
        raise OSError

    monkeypatch.setattr(table_rows, "_query", wait)
    monkeypatch.setattr(delta_rs, "MOST_SECONDS", 0.5)
    monkeypatch.setattr("storage.abandoned._tables", set())
    for _ in range(2):
        assert len(rows(spark, table, {"batch": PLAIN[:1]})) == 3
    assert waits == [0]
    assert asked_of_spark == [table, table]
    assert "no answer" in caplog.text


def test_a_table_that_nobody_can_read_is_told_as_the_lake_failing(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(LakeError, match="Can't read"):
        rows(spark, f"file:{tmp_path}/none", {"batch": ["a"]})
