"""What the tests with a Spark session share: an empty lake for each, and the session kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from storage.lake import Lake, open_lake


@pytest.fixture(scope="session")
def empty_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake without rows: creating Delta tables takes seconds, copying them does not."""
    folder = tmp_path_factory.mktemp("lakes") / "empty"
    open_lake(spark, f"file:{folder}", batch_depth=1)
    return folder


@pytest.fixture
def lake(spark: SparkSession, empty_lake: Path, tmp_path: Path) -> Lake:
    """A lake of the test's own; batches begin below the first folder."""
    shutil.copytree(empty_lake, tmp_path / "lake")
    return Lake(spark, f"file:{tmp_path}/lake", batch_depth=1)


@pytest.fixture
def keep_session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's `main` stops its session at the end; this one is the other tests' too."""
    monkeypatch.setattr(SparkSession, "stop", lambda _: None)
