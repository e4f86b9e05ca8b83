"""Services that the tests start: a real HDFS, once per test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.hdfs_daemons import Hdfs, jars_missing, running_hdfs


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
