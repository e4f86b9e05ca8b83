"""The standalone cluster that other tests trust: GPU addresses, and a folder that is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.services.cluster import WorkerSize, running_cluster
from tests.services.hiding import takes_root

pytestmark = takes_root

SEEN_BY_TASKS = """\
import json, os, sys
from pyspark import TaskContext
from pyspark.sql import SparkSession

def see(folder):
    addresses = TaskContext.get().resources()["gpu"].addresses
    return {"addresses": addresses, "folder": sorted(os.listdir(folder)), "pid": os.getpid()}

spark = SparkSession.builder.getOrCreate()
folders = spark.sparkContext.parallelize([sys.argv[2]] * 4, 4)
with open(sys.argv[1], "w") as report:
    json.dump(folders.map(see).collect(), report)
"""
TWO_CARDS = {
    "spark.executor.resource.gpu.amount": "2",
    "spark.task.resource.gpu.amount": "1",
}


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "secret.py").touch()
    return folder


@pytest.fixture(scope="module")
def gpu_tasks(tmp_path_factory: pytest.TempPathFactory, hidden: Path) -> list[dict[str, Any]]:
    """What four tasks saw on an executor with two GPUs, two slots and a folder hidden from it."""
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, size=WorkerSize(gpus=2, memory="1g"), hidden=hidden) as cluster:
        seen: list[dict[str, Any]] = cluster.run(SEEN_BY_TASKS, hidden, properties=TWO_CARDS)
        return seen


def test_each_task_sees_one_gpu_address(gpu_tasks: list[dict[str, Any]]) -> None:
    assert {len(task["addresses"]) for task in gpu_tasks} == {1}
    assert {task["addresses"][0] for task in gpu_tasks} <= {"0", "1"}


def test_executors_see_nothing_of_a_hidden_folder(
    gpu_tasks: list[dict[str, Any]], hidden: Path
) -> None:
    assert [path.name for path in hidden.iterdir()] == ["secret.py"]
    assert [task["folder"] for task in gpu_tasks] == [[]] * 4
