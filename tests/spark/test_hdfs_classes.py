"""The classes of HDFS's client that a run leaves to later ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from storage import hdfs_classes
from storage.hdfs_classes import ARCHIVING_VARIABLE, load_hdfs_classes, load_if_archiving

CLASSES = 1_000  # a client has loaded as many when it has read and written a file


def test_a_clients_classes_are_found_by_their_names_in_sparks_jars(spark: SparkSession) -> None:
    assert load_hdfs_classes(spark) > CLASSES


def test_the_script_that_archives_says_so() -> None:
    script = Path(__file__).resolve().parents[2] / "tools" / "class_archive.sh"
    assert f"export {ARCHIVING_VARIABLE}=1" in script.read_text()


def test_they_are_loaded_by_runs_alone_that_archive(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading: list[SparkSession] = []
    monkeypatch.setattr(hdfs_classes, "load_hdfs_classes", loading.append)
    load_if_archiving(spark)
    assert loading == []
    monkeypatch.setenv(ARCHIVING_VARIABLE, "1")
    load_if_archiving(spark)
    assert loading == [spark]
