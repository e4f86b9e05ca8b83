"""Photographs that can't be read: many of them are an outage, and a few are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from conf.errors import EnvironmentFault
from conf.training import PairSettings
from jobs import training_pairs
from jobs.training_folders import READY
from jobs.training_shards import make_shards
from jobs.training_unread import refuse_outage
from storage.listing import list_files
from tests.spark.test_training_pairs import SIDE, save_image


def broken(spark: SparkSession, *, count: int, detail: str = "gone") -> DataFrame:
    rows = [(f"{number}.png", "vanished", detail) for number in range(count)]
    return spark.createDataFrame(
        [*rows, ("x.png", "corrupt", None)], "name string, reason string, detail string"
    )


def test_a_storage_that_fails_meanwhile_is_not_trained_around(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(6):
        save_image(tmp_path / "images" / f"{number}.png", level=40 * number)
    lines = [f"{number}.png\tA wall .\n" for number in range(6)]
    (tmp_path / "captions.tsv").write_text("".join(lines), encoding="utf-8")

    def list_before_some_go(*arguments: Any) -> pa.Table:
        listing = list_files(*arguments)
        for number in range(3):
            (tmp_path / "images" / f"{number}.png").unlink()
        return listing

    monkeypatch.setattr(training_pairs, "list_files", list_before_some_go)
    fields = {"images": str(tmp_path / "images"), "captions": str(tmp_path / "captions.tsv")}
    settings = PairSettings.model_validate(fields | {"max_skipped_share": 0.9})
    with pytest.raises(EnvironmentFault, match=r"3 of 6 photographs can't be read .* 0.png: gone"):
        make_shards(spark, settings, tmp_path / "work", image_size=SIDE, env_local=True)
    assert not (tmp_path / "work" / READY).exists()


def test_one_unread_file_in_two_hundred_is_no_outage(spark: SparkSession) -> None:
    refuse_outage(broken(spark, count=5), files=1000)
    with pytest.raises(EnvironmentFault, match="6 of 1000"):
        refuse_outage(broken(spark, count=6), files=1000)


def test_files_that_this_user_may_not_read_are_no_outage(spark: SparkSession) -> None:
    refuse_outage(broken(spark, count=9, detail="Permission denied"), files=10)
