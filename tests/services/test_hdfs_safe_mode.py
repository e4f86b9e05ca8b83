"""HDFS in safe mode can be read and not written: the night ends in one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from conf.errors import LakeError
from models.package import ModelPackage
from tests.captioning import photograph, run_job
from tests.services.hdfs_daemons import Hdfs


@contextmanager
def safe_mode(hdfs: Hdfs) -> Iterator[None]:
    hdfs.administer("-safemode", "enter")
    yield
    hdfs.administer("-safemode", "leave")


def test_safe_mode_is_a_clear_error_and_after_it_the_run_goes_on(
    spark: SparkSession, own_hdfs: Hdfs, tiny_package: ModelPackage
) -> None:
    client = InsecureClient(own_hdfs.web_uri, user="root")
    arguments: dict[str, Any] = {
        "input": f"{own_hdfs.uri}/in",
        "lake": f"{own_hdfs.uri}/lake",
    }
    for seed in range(4):
        client.write(f"/in/{seed}.png", photograph(seed))
    with safe_mode(own_hdfs), pytest.raises(LakeError, match="safe mode"):
        run_job(spark, tiny_package, **arguments)
    assert client.status("/lake", strict=False) is None
    run_job(spark, tiny_package, **arguments)
    client.write("/in/new.png", photograph(9))
    with safe_mode(own_hdfs), pytest.raises(LakeError, match="safe mode"):
        run_job(spark, tiny_package, **arguments)
    run_job(spark, tiny_package, **arguments)
    table = spark.read.format("delta").load(f"{own_hdfs.uri}/lake/captions")
    assert table.where("status = 'captioned'").count() == table.count() == 5
