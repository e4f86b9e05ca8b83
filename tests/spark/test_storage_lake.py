"""Opening a lake: made once, checked ever after, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

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
        assert table_metadata(lake.spark, uri)[0]["delta.isolationLevel"] == "Serializable"


def test_an_existing_lake_keeps_its_batch_depth(lake: Lake) -> None:
    assert open_lake(lake.spark, lake.uri, batch_depth=7).batch_depth == 1


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


@pytest.mark.parametrize(("version", "words"), [("2", "schema version 2"), ("x", "another")])
def test_a_newer_schema_version_is_refused(lake: Lake, version: str, words: str) -> None:
    set_property(lake, "captionlake.schema_version", version)
    assert words in refusal(lake.spark, lake.uri)


def test_a_place_that_cannot_be_written_is_refused_in_one_line(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert f"file:{tmp_path}/file/lake" in refusal(spark, f"file:{tmp_path}/file/lake")
