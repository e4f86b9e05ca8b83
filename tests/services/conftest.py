"""Services that the tests start: a real HDFS, once per test run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.hdfs_daemons import Hdfs, jars_missing, running_hdfs
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
def submit() -> Iterator[Callable[..., Submission]]:
    """Start jobs through spark-submit.sh; whatever still runs at the end is ended."""
    started: list[Submission] = []

    def start_and_remember(*arguments: str, folder: Path, **variables: str) -> Submission:
        started.append(start(*arguments, folder=folder, **variables))
        return started[-1]

    yield start_and_remember
    for submission in started:
        submission.end()
