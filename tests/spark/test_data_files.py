"""Data files written without Spark hold, and tell, what Spark's would."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as IndependentReader
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from storage import data_files, delta_log
from storage.data_files import statistics
from storage.delta_log import commit_staged, stage_rows
from storage.hadoop import JAVA_ERRORS, file_creator
from storage.lake import Lake
from storage.schemas import CAPTIONS, RUNS

PAUSES_SECONDS = (0.01, 0.02)
YEARS = (1, 1583, 1969, 2026, 9999)
LAST = "\U0010ffff"
TEXTS = ("short", "t" * 33, "u" * 31 + "é€", "é" * 40, "it's \\ \"\n\t%20\x7f")


def rows_of_every_kind(schema: StructType) -> pa.Table:
    """Rows whose columns hold extremes of their type, and one of nulls alone."""
    values: dict[str, list[Any]] = {
        "string": [*TEXTS, None],
        "int": [-(2**31), 2**31 - 1, 0, 1, 2, None],
        "bigint": [-(2**63), 2**63 - 1, 0, 1, 2, None],
        "double": [1e-300, 0.1, -0.0, 1.0, 0.5, None],
        "timestamp": [*(datetime(year, 6, 1, 1, 2, 3, 456789, UTC) for year in YEARS), None],
        "array<string>": [[], ["a"], ["b", "c"], ["é"], [""], None],
        "map<string,bigint>": [[], [("a", 1)], [("b", 2), ("c", 3)], [("é", 4)], [("", 5)], None],
        "map<string,double>": [[], [("a", 1.5)], [("b", 2.5)], [("c", 3.0)], [("d", 0.0)], None],
    }
    columns = {field.name: values[field.dataType.simpleString()] for field in schema}
    return pa.table(columns, schema=to_arrow_schema(schema, timezone="UTC"))


@pytest.fixture(params=["captions", "runs"])
def filled(request: pytest.FixtureRequest, lake: Lake) -> tuple[str, pa.Table, StructType]:
    """A table of the lake, and rows for it in two partitions."""
    if request.param == "captions":
        uri, schema, partition = lake.captions_uri, CAPTIONS, "batch"
    else:
        uri, schema, partition = lake.runs_uri, RUNS, "run_id"
    rows = rows_of_every_kind(schema)
    names = pa.array(["a/b c=%20", "é"] * 3)
    return uri, rows.set_column(schema.names.index(partition), partition, names), schema


def commit(spark: SparkSession, uri: str, rows: pa.Table, schema: StructType) -> dict[str, Any]:
    """Commit rows; return `add` actions by partition, with columns, without what chance makes."""
    staged = stage_rows(spark, uri, rows, schema)
    version = commit_staged(spark, uri, staged, may_follow=lambda _: True)
    log = Path(uri.removeprefix("file:")) / "_delta_log" / f"{version:020d}.json"
    actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    added = [action["add"] for action in actions if "add" in action]
    for add in added:
        file = Path(uri.removeprefix("file:")) / add["path"]
        assert file.stat().st_size == add.pop("size")
        add["columns"] = [column.path for column in pq.ParquetFile(file).schema]
        assert len(add.pop("path").split("/")[0]) == 2
        assert abs(datetime.now(UTC).timestamp() * 1000 - add.pop("modificationTime")) < 600_000
        add["stats"] = json.loads(add["stats"])
    return {json.dumps(add["partitionValues"]): add for add in added}


@pytest.fixture
def spark_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("written without Spark")

    monkeypatch.setattr(delta_log, "write_data_files", refuse)


def by_spark(spark: SparkSession, uri: str) -> list[Any]:
    rows = spark.read.format("delta").load(uri).toArrow()
    return sorted(map(repr, rows.to_pylist()))


def by_delta_rs(uri: str) -> list[Any]:
    return sorted(
        map(repr, IndependentReader(uri.removeprefix("file:")).to_pyarrow_table().to_pylist())
    )


def test_the_log_tells_of_them_what_it_tells_of_sparks(
    spark: SparkSession,
    filled: tuple[str, pa.Table, StructType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, rows, schema = filled
    ours = commit(spark, uri, rows, schema)
    monkeypatch.setattr(delta_log, "_told_columns", lambda *_: None)
    sparks = commit(spark, uri, rows, schema)
    assert len(ours) == 2
    assert ours == sparks


def test_a_commit_searches_no_jar_for_parts_of_names(
    spark: SparkSession, filled: tuple[str, pa.Table, StructType], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, rows, schema = filled

    def refuse(part: Any, name: str) -> Any:
        raise AssertionError(f"py4j was asked for {name}")

    monkeypatch.setattr("py4j.java_gateway.JVMView.__getattr__", refuse)
    monkeypatch.setattr("py4j.java_gateway.JavaPackage.__getattr__", refuse)
    staged = stage_rows(spark, uri, rows, schema)
    version = commit_staged(spark, uri, staged, may_follow=lambda _: True)
    instead = stage_rows(spark, uri, rows, schema)
    again = commit_staged(spark, uri, instead, may_follow=lambda _: True, instead_of=staged)
    assert (version, again) == (1, 2)


def test_every_reader_finds_what_was_written(
    spark: SparkSession, filled: tuple[str, pa.Table, StructType]
) -> None:
    uri, rows, schema = filled
    commit(spark, uri, rows, schema)
    written = sorted(map(repr, rows.to_pylist()))
    assert by_spark(spark, uri) == written
    assert by_delta_rs(uri) == written


def let_writes_fail(patch: pytest.MonkeyPatch, failures: int) -> list[str]:
    """Let the first writes end halfway; return the paths of all tries, as they come."""
    tries: list[str] = []

    def failing_creator(spark: SparkSession, folder: str) -> Callable[[str, bytes], None]:
        create = file_creator(spark, folder)

        def create_or_fail(path: str, data: bytes) -> None:
            tries.append(path)
            if len(tries) <= failures:
                create(path, data[: len(data) // 2])
            create(path, data)  # which fails where a file is already

        return create_or_fail

    patch.setattr(data_files, "file_creator", failing_creator)
    patch.setattr(data_files, "PAUSES_SECONDS", PAUSES_SECONDS)
    return tries


def test_a_file_that_cant_be_written_at_once_is_written_under_another_name(
    spark: SparkSession,
    filled: tuple[str, pa.Table, StructType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, rows, schema = filled
    tries = let_writes_fail(monkeypatch, len(PAUSES_SECONDS))
    commit(spark, uri, rows, schema)
    assert len(set(tries)) == len(PAUSES_SECONDS) + 2  # the second file at once
    assert by_delta_rs(uri) == by_spark(spark, uri) == sorted(map(repr, rows.to_pylist()))


def test_a_file_that_cant_be_written_again_and_again_is_no_part_of_the_table(
    spark: SparkSession,
    filled: tuple[str, pa.Table, StructType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, rows, schema = filled
    tries = let_writes_fail(monkeypatch, len(PAUSES_SECONDS) + 1)
    with pytest.raises(Py4JJavaError, match="already exists"):
        commit(spark, uri, rows, schema)
    assert len(tries) == len(PAUSES_SECONDS) + 1
    assert by_delta_rs(uri) == []


def test_a_reader_that_skips_files_skips_none_that_it_needs(
    spark: SparkSession, filled: tuple[str, pa.Table, StructType]
) -> None:
    uri, rows, schema = filled
    for row in range(rows.num_rows):
        commit(spark, uri, rows.slice(row, 1), schema)
    table = spark.read.format("delta").load(uri)
    name = "mtime" if "mtime" in schema.names else "started_at"
    for moment in rows[name].to_pylist()[:-1]:
        literal = f"timestamp '{moment.isoformat()}'"  # py4j would take year 1 for Julian
        assert table.where(f"{name} = {literal}").count() == 1
        assert table.where(f"{name} > {literal} - interval 1 microsecond").count() >= 1
    for text in TEXTS:
        assert table.where(table["model_version"] == text).count() == 1
        assert table.where(table["model_version"] >= text).count() >= 1


@pytest.mark.parametrize("mode", ["EXCEPTION", "LEGACY", "CORRECTED"])
def test_old_times_are_read_alike_whatever_calendar_spark_is_told_to_assume(
    spark: SparkSession, filled: tuple[str, pa.Table, StructType], mode: str
) -> None:
    uri, rows, schema = filled
    commit(spark, uri, rows, schema)
    name = "spark.sql.parquet.datetimeRebaseModeInRead"
    before = spark.conf.get(name) or "CORRECTED"
    spark.conf.set(name, mode)
    try:
        assert by_spark(spark, uri) == sorted(map(repr, rows.to_pylist()))
    finally:
        spark.conf.set(name, before)


@pytest.mark.parametrize("text", ["z" * 32 + end for end in ("", "a", "\x7e", "\x7f", "é", LAST)])
def test_the_greatest_text_that_is_told_is_no_smaller_than_the_text(text: str) -> None:
    told = statistics(pa.table({"model_version": [text, "a"]}))["maxValues"]["model_version"]
    assert told.encode() >= text.encode()


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), float("-inf")])
def test_no_range_is_told_of_a_column_with_what_is_no_number(strange: float) -> None:
    told = statistics(pa.table({"score": [0.5, strange, None], "width": [1, 2, 3]}))
    assert told["minValues"] == {"width": 1}
    assert told["maxValues"] == {"width": 3}
    assert told["nullCount"] == {"score": 1, "width": 0}


@pytest.mark.parametrize(
    "change",
    [
        "SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
        "SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')",
        "ADD COLUMN (checked_by string)",
        "ADD CONSTRAINT small CHECK (width IS NULL OR width < 2147483648)",
        "UNSET TBLPROPERTIES ('delta.dataSkippingStatsColumns')",
    ],
)
def test_spark_writes_a_table_that_somebody_changed(
    spark: SparkSession, lake: Lake, spark_only: None, change: str
) -> None:
    spark.sql(f"ALTER TABLE delta.`{lake.captions_uri}` {change}")
    rows = rows_of_every_kind(CAPTIONS)
    staged = stage_rows(spark, lake.captions_uri, rows, CAPTIONS)
    commit_staged(spark, lake.captions_uri, staged, may_follow=lambda _: True)
    found = lake.captions().select(*CAPTIONS.names).toArrow().to_pylist()
    assert sorted(map(repr, found)) == sorted(map(repr, rows.to_pylist()))


def test_a_column_that_must_meet_a_condition_is_written_by_spark(
    spark: SparkSession, lake: Lake
) -> None:
    """Delta's first kind of constraint stands in the column's metadata, not in the protocol."""
    invariant = json.dumps({"expression": {"expression": "width > 5"}})
    log = Path(lake.captions_uri.removeprefix("file:")) / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    change = next(action for action in actions if "metaData" in action)
    columns = json.loads(change["metaData"]["schemaString"])
    for column in columns["fields"]:
        if column["name"] == "width":
            column["metadata"]["delta.invariants"] = invariant
    change["metaData"]["schemaString"] = json.dumps(columns)
    (log.parent / f"{1:020d}.json").write_text(json.dumps(change), encoding="utf-8")
    with pytest.raises(JAVA_ERRORS, match="width > 5"):
        stage_rows(spark, lake.captions_uri, rows_of_every_kind(CAPTIONS), CAPTIONS)


@pytest.mark.parametrize("names", ["reasons,state", "run_id,state"])
def test_spark_writes_a_table_whose_log_is_to_know_what_has_no_range(
    spark: SparkSession, lake: Lake, spark_only: None, names: str
) -> None:
    table = IndependentReader(lake.runs_uri.removeprefix("file:"))
    table.alter.set_table_properties({"delta.dataSkippingStatsColumns": names})
    assert stage_rows(spark, lake.runs_uri, rows_of_every_kind(RUNS), RUNS) is not None


def test_spark_writes_where_data_files_are_to_be_encrypted(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(delta_log, "write_data_files", lambda *_, **__: written.append("plain"))
    settings = spark._jsc.hadoopConfiguration()
    settings.set("parquet.crypto.factory.class", "no.such.Factory")
    try:
        with pytest.raises(JAVA_ERRORS, match=r"no\.such\.Factory"):
            stage_rows(spark, lake.captions_uri, rows_of_every_kind(CAPTIONS), CAPTIONS)
    finally:
        settings.unset("parquet.crypto.factory.class")
    assert written == []
