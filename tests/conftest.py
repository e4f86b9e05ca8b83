"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conf.environments import load_environment
from jobs.session import build_session
from models.package import ModelPackage
from tests.tiny_model import make_tiny_package

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local session with Delta for the whole test run, as the local environment has it."""
    local = load_environment("local")
    properties = {
        "spark.master": "local[2,4]",
        "spark.jars": ",".join(str(jar) for jar in sorted((ROOT / "jars").glob("*.jar"))),
    }
    with pytest.MonkeyPatch.context() as patch:  # processes that tests start don't inherit these
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        session = build_session("tests", replace(local, spark={**local.spark, **properties}))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A real model package, small and of random weights."""
    return make_tiny_package(tmp_path_factory.mktemp("packages"))
