"""Services that the tests start: a real HDFS, once per test run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pyspark.sql import SparkSession

from tests.services.hdfs_daemons import Hdfs, free_ports, jars_missing, running_hdfs
from tests.services.submitting import Submission
from tests.services.submitting import submit as start


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """One NameNode and one DataNode for the whole run; a test keeps to a folder of its own."""
    if missing := jars_missing():
        pytest.skip(missing)
    with running_hdfs(tmp_path_factory.mktemp("hdfs")) as started:
        yield started


@pytest.fixture
def own_hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """An HDFS for a test that kills or pauses its daemons."""
    if missing := jars_missing():
        pytest.skip(missing)
    with running_hdfs(tmp_path_factory.mktemp("own_hdfs")) as started:
        yield started


@pytest.fixture
def nameservice(spark: SparkSession, hdfs: Hdfs) -> Iterator[str]:
    """The URI of a nameservice that only the session's configuration knows."""
    (nothing,) = free_ports(1)
    service = f"service{uuid4().hex[:8]}"
    properties = {
        "dfs.nameservices": service,
        f"dfs.ha.namenodes.{service}": "lost,active",
        f"dfs.namenode.rpc-address.{service}.lost": f"127.0.0.1:{nothing}",
        f"dfs.namenode.rpc-address.{service}.active": hdfs.uri.removeprefix("hdfs://"),
        f"dfs.client.failover.proxy.provider.{service}": (
            "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
        ),
    }
    configuration: Any = spark.sparkContext._jsc.hadoopConfiguration()
    for name, value in properties.items():
        configuration.set(name, value)
    yield f"hdfs://{service}"
    for name in properties:
        configuration.unset(name)


@pytest.fixture
def submit() -> Iterator[Callable[..., Submission]]:
    """Start jobs through spark-submit.sh; whatever still runs at the end is ended."""
    started: list[Submission] = []

    def start_and_remember(*arguments: str, folder: Path, **variables: str) -> Submission:
        started.append(start(*arguments, folder=folder, **variables))
        return started[-1]

    yield start_and_remember
    for submission in started:
        submission.end()
