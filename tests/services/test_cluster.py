"""The standalone cluster that other tests trust: GPU addresses, and a folder that is hidden."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.services.cluster import SPARK_HOME, Cluster, WorkerSize, running_cluster

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


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "secret.py").touch()
    return folder


@pytest.fixture(scope="module")
def gpu_tasks(tmp_path_factory: pytest.TempPathFactory, hidden: Path) -> list[dict[str, Any]]:
    """What four tasks saw on an executor with two GPUs, two slots and a folder hidden from it."""
    if os.geteuid() != 0:
        pytest.skip("Hiding a folder from the executors needs root.")
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, size=WorkerSize(gpus=2, memory="1g"), hidden=hidden) as cluster:
        return run_tasks(cluster, folder, hidden)


def run_tasks(cluster: Cluster, folder: Path, hidden: Path) -> list[dict[str, Any]]:
    job = folder / "seen.py"
    job.write_text(SEEN_BY_TASKS)
    properties = {
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "600m",
        "spark.executor.resource.gpu.amount": "2",
        "spark.task.resource.gpu.amount": "1",
        "spark.ui.enabled": "false",
    }
    options = [part for pair in properties.items() for part in ("--conf", "=".join(pair))]
    submit = [f"{SPARK_HOME}/bin/spark-submit", "--master", cluster.uri, *options]
    subprocess.run(
        [*submit, str(job), str(folder / "report.json"), str(hidden)],
        env=os.environ | {"PYSPARK_PYTHON": os.path.realpath(sys.executable)},
        check=True,
    )
    seen: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())
    return seen


def test_each_task_sees_one_gpu_address(gpu_tasks: list[dict[str, Any]]) -> None:
    assert {len(task["addresses"]) for task in gpu_tasks} == {1}
    assert {task["addresses"][0] for task in gpu_tasks} <= {"0", "1"}


def test_executors_see_nothing_of_a_hidden_folder(
    gpu_tasks: list[dict[str, Any]], hidden: Path
) -> None:
    assert [path.name for path in hidden.iterdir()] == ["secret.py"]
    assert [task["folder"] for task in gpu_tasks] == [[]] * 4
