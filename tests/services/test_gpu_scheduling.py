"""GPU executors on a real standalone cluster: each Python worker sees the one card Spark gave it.

The cards are named by a discovery script and don't exist, so the model's device can be chosen and
looked for, and is then found missing: by a task, and by the whole job.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.environments import load_environment
from models.package import ModelPackage
from tests.captioning import captions, fill, runs
from tests.services.checkout import ROOT
from tests.services.cluster import COMMON_PROPERTIES, Cluster, WorkerSize, running_cluster

CARDS = 2
ROUNDS = 3
ASK_FOR_THE_CARD = """\
import json, os, sys
from pyspark import TaskContext
from pyspark.sql import SparkSession

def look(is_crashing):
    import time
    if is_crashing and TaskContext.get().attemptNumber() == 0:
        os._exit(1)
    from conf.errors import EnvironmentFault
    from models.keras_engine import choose_device
    from udfs.caption import gpu_address
    early = sorted({"tensorflow", "jax"} & set(sys.modules))
    try:
        choose_device(f"gpu:{gpu_address()}")
        said = ""
    except EnvironmentFault as fault:
        said = str(fault)
    time.sleep(1)  # so that every executor gets a task
    visible = os.environ["CUDA_VISIBLE_DEVICES"]
    growth = os.environ["TF_FORCE_GPU_ALLOW_GROWTH"]
    order = os.environ["CUDA_DEVICE_ORDER"]
    return [{"given": gpu_address(), "visible": visible, "pid": os.getpid(), "said": said,
             "growth": growth, "order": order, "early": early}]

spark = SparkSession.builder.getOrCreate()
cards, rounds = int(sys.argv[2]), int(sys.argv[3])
tasks = spark.sparkContext.parallelize(range(cards), cards)
seen = [tasks.mapPartitions(lambda _: look(False)).collect() for _ in range(rounds)]
seen.append(tasks.mapPartitions(lambda _: look(True)).collect())
with open(sys.argv[1], "w") as report:
    json.dump(seen, report)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two executors of one card each."""
    size = WorkerSize(cores=CARDS, memory="1400m", gpus=CARDS)
    with running_cluster(tmp_path_factory.mktemp("gpus"), size=size) as started:
        yield started


@pytest.fixture(scope="module")
def all_rounds(cluster: Cluster) -> list[list[dict[str, Any]]]:
    """What the tasks of several jobs in a row saw; in the last job each is a task's second try."""
    seen: list[list[dict[str, Any]]] = cluster.run(
        ASK_FOR_THE_CARD, CARDS, ROUNDS, properties=properties()
    )
    return seen


@pytest.fixture(scope="module")
def rounds(all_rounds: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The jobs in which nothing failed."""
    return all_rounds[:ROUNDS]


def properties() -> dict[str, str]:
    """Return what `standalone-gpu` says of cards, for executors of one core with this checkout."""
    environment = load_environment("standalone-gpu").spark
    kept = ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount")
    return {
        **{name: environment[name] for name in kept},
        "spark.executor.cores": "1",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
    }


def test_each_worker_sees_its_own_card_and_no_other(rounds: list[list[dict[str, Any]]]) -> None:
    for tasks in rounds:
        assert [task["visible"] for task in tasks] == [task["given"] for task in tasks]
        assert {task["given"] for task in tasks} == {str(card) for card in range(CARDS)}


def test_a_reused_worker_keeps_its_card(rounds: list[list[dict[str, Any]]]) -> None:
    cards: dict[int, set[str]] = {}
    for tasks in rounds:
        for task in tasks:
            cards.setdefault(task["pid"], set()).add(task["visible"])
    assert len(cards) == CARDS  # no worker was started anew
    assert all(len(seen) == 1 for seen in cards.values())


def test_a_task_that_is_tried_again_sees_one_card_in_a_worker_of_its_own(
    all_rounds: list[list[dict[str, Any]]],
) -> None:
    (*rounds, retried) = all_rounds
    earlier = {task["pid"] for tasks in rounds for task in tasks}
    assert not earlier & {task["pid"] for task in retried}
    assert [task["visible"] for task in retried] == [task["given"] for task in retried]
    assert {task["given"] for task in retried} <= {str(card) for card in range(CARDS)}


def test_the_card_is_chosen_before_a_framework_is_imported_and_its_memory_grows(
    rounds: list[list[dict[str, Any]]],
) -> None:
    assert [task["early"] for task in rounds[0]] == [[]] * CARDS
    assert {task["growth"] for task in rounds[0]} == {"true"}


def test_cards_are_counted_as_nvidia_smi_counts_them(rounds: list[list[dict[str, Any]]]) -> None:
    assert {task["order"] for task in rounds[0]} == {"PCI_BUS_ID"}


def test_a_card_that_is_not_there_is_a_clear_error(rounds: list[list[dict[str, Any]]]) -> None:
    assert all("A GPU was asked for" in task["said"] for tasks in rounds for task in tasks)


def test_the_job_itself_says_that_the_card_is_missing_and_captions_nothing(
    cluster: Cluster, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 4)
    of_this_machine = {
        "spark.jars": ",".join(map(str, (ROOT / "jars").glob("*.jar"))),
        "spark.driver.memory": "1g",
        "spark.task.cpus": "1",
        "spark.pyspark.python": sys.executable,
    }
    environment = load_environment("standalone-gpu").spark
    result = cluster.submit(
        ROOT / "jobs" / "caption_images.py",
        *("--env", "standalone-gpu", "--model", tiny_package.directory, "--run-id", "without"),
        *("--input", f"file:{tmp_path}/in", "--lake", f"file:{tmp_path}/lake"),
        properties={**environment, **COMMON_PROPERTIES, **properties(), **of_this_machine},
        PYTHONPATH=str(ROOT),
        SPARK_CONF_DIR=str(ROOT / "conf"),
    )
    assert result.returncode == 6, result.stdout
    assert "A GPU was asked for" in result.stdout
    assert "Traceback" not in result.stdout
    assert captions(tmp_path / "lake") == []
    assert runs(tmp_path / "lake")["without"]["state"] == "failed"
