"""Opening a lake: made once, checked ever after, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from deltalake import DeltaTable as IndependentReader
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.delta_log import table_metadata
from storage.lake import Lake, open_lake
from storage.schemas import CAPTIONS, RUNS


def set_property(lake: Lake, name: str, value: str) -> None:
    lake.spark.sql(
        f"ALTER TABLE delta.`{lake.captions_uri}` SET TBLPROPERTIES ('{name}' = '{value}')"
    )


def refusal(spark: SparkSession, uri: str) -> str:
    with pytest.raises(LakeError) as error:
        open_lake(spark, uri, batch_depth=1)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_new_lake_has_both_tables_with_their_columns_described(lake: Lake) -> None:
    for uri, schema, partition in (
        (lake.captions_uri, CAPTIONS, "batch"),
        (lake.runs_uri, RUNS, "run_id"),
    ):
        table = IndependentReader(uri.removeprefix("file:"))
        assert [field.name for field in table.schema().fields] == schema.names
        assert table.metadata().partition_columns == [partition]
        found = lake.spark.read.format("delta").load(uri).schema
        assert all(field.metadata["comment"] for field in found)
        assert table_metadata(lake.spark, uri).properties["delta.isolationLevel"] == "Serializable"


def test_an_existing_lake_keeps_its_batch_depth(lake: Lake) -> None:
    assert open_lake(lake.spark, lake.uri, batch_depth=7).batch_depth == 1


def test_a_lake_that_needs_nothing_is_opened_without_spark(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("Spark was asked")

    monkeypatch.setattr("storage.tables.table_metadata", refuse)
    assert open_lake(lake.spark, lake.uri, batch_depth=7).batch_depth == 1


def test_spark_opens_a_lake_that_delta_rs_cannot_reach(spark: SparkSession, tmp_path: Path) -> None:
    uri = f"file:{tmp_path}/100%"
    open_lake(spark, uri, batch_depth=1)
    assert open_lake(spark, uri, batch_depth=7).batch_depth == 1


def test_files_that_are_no_delta_table_are_refused_and_left_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "notes.txt").write_text("mine")
    assert "no Delta table" in refusal(spark, f"file:{tmp_path}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["captions", "notes.txt"]


def test_a_delta_table_of_another_software_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(1).write.format("delta").save(f"file:{tmp_path}/captions")
    assert "another software" in refusal(spark, f"file:{tmp_path}")
    assert not (tmp_path / "runs").exists()


def test_a_table_with_a_column_of_another_type_is_refused(lake: Lake) -> None:
    frame = lake.captions().withColumn("score", F.col("score").cast("string"))
    writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    writer.partitionBy("batch").save(lake.captions_uri)
    assert "column score" in refusal(lake.spark, lake.uri)


@pytest.mark.parametrize(("version", "words"), [("4", "schema version 4"), ("x", "another")])
def test_a_newer_schema_version_is_refused(lake: Lake, version: str, words: str) -> None:
    set_property(lake, "captionlake.schema_version", version)
    assert words in refusal(lake.spark, lake.uri)


def age(lake: Lake, *, lacking: dict[str, str]) -> None:
    """Turn tables into what an older version wrote: a column fewer, the number of that version."""
    for table, column in lacking.items():
        uri = f"{lake.uri}/{table}"
        frame = lake.spark.read.format("delta").load(uri).drop(column)
        for name in (
            "delta.dataSkippingStatsColumns",
            "delta.checkpointInterval",
            "delta.logRetentionDuration",
            "delta.randomizeFilePrefixes",
        ):
            lake.spark.sql(f"ALTER TABLE delta.`{uri}` UNSET TBLPROPERTIES ('{name}')")
        writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        writer.partitionBy("batch" if table == "captions" else "run_id").save(uri)
        lake.spark.sql(
            f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('captionlake.schema_version' = '1')"
        )


def test_a_lake_of_an_older_version_gets_what_it_lacks_and_keeps_its_rows(lake: Lake) -> None:
    add_caption(lake, "file:/in/a/1")
    age(lake, lacking={"captions": "tries", "runs": "batches"})
    assert "tries" not in lake.captions().columns
    opened = open_lake(lake.spark, lake.uri, batch_depth=7)
    assert opened.batch_depth == 1
    for frame, schema in ((opened.captions(), CAPTIONS), (opened.runs(), RUNS)):
        assert {field.name: field.dataType for field in frame.schema} == {
            field.name: field.dataType for field in schema
        }
        assert all(field.metadata["comment"] for field in frame.schema)
    (row,) = opened.captions().collect()
    assert (row.path, row.tries) == ("file:/in/a/1", None)
    for uri in (lake.captions_uri, lake.runs_uri):
        properties = table_metadata(lake.spark, uri).properties
        assert properties["captionlake.schema_version"] == "3"
        assert properties["delta.randomizeFilePrefixes"] == "true"
        assert properties["delta.checkpointInterval"] == "100"
        assert "path" not in properties["delta.dataSkippingStatsColumns"].split(",")
    add_caption(opened, "file:/in/a/2")
    table = IndependentReader(lake.captions_uri.removeprefix("file:")).to_pyarrow_table()
    assert sorted(table["path"].to_pylist()) == ["file:/in/a/1", "file:/in/a/2"]


def test_an_older_table_with_a_column_of_another_type_is_refused_and_left_alone(
    lake: Lake,
) -> None:
    age(lake, lacking={"captions": "score"})
    frame = lake.captions().withColumn("score", F.lit("high"))
    writer = frame.write.format("delta").mode("append").option("mergeSchema", "true")
    writer.save(lake.captions_uri)
    assert "column score" in refusal(lake.spark, lake.uri)
    properties = table_metadata(lake.spark, lake.captions_uri).properties
    assert properties["captionlake.schema_version"] == "1"


def test_the_log_names_no_photograph(lake: Lake) -> None:
    add_caption(lake, "file:/in/a/secret")
    log = Path(lake.captions_uri.removeprefix("file:")) / "_delta_log"
    assert not [file for file in log.glob("*.*") if b"secret" in file.read_bytes()]


def add_caption(lake: Lake, path: str) -> None:
    row = {"path": path, "batch": "a", "caption": f"of {path}", "status": "captioned"}
    frame = lake.spark.createDataFrame([[row.get(name) for name in CAPTIONS.names]], CAPTIONS)
    frame.write.format("delta").mode("append").save(lake.captions_uri)


@pytest.mark.parametrize("left", [[], [".00000000000000000000.json.1f2e.tmp"]])
def test_a_table_whose_creator_died_is_made_anew(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    begun = tmp_path / "captions" / "_delta_log"
    begun.mkdir(parents=True)
    for name in left:
        (begun / name).write_text('{"commitInfo":')
    monkeypatch.setattr("storage.tables._CREATION_SECONDS", 0.5)
    lake = open_lake(spark, f"file:{tmp_path}", batch_depth=1)
    add_caption(lake, "file:/in/a/1")
    assert IndependentReader(str(tmp_path / "captions")).version() == 1


def test_a_place_that_cannot_be_written_is_refused_in_one_line(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert f"file:{tmp_path}/file/lake" in refusal(spark, f"file:{tmp_path}/file/lake")
