"""GPU executors on a real standalone cluster: each Python worker sees the one card Spark gave it.

The cards are named by a discovery script and don't exist, so the model's device can be chosen and
looked for, and is then found missing.
"""

from __future__ import annotations

from typing import Any

import pytest

from conf.environments import load_environment
from tests.services.checkout import ROOT
from tests.services.cluster import WorkerSize, running_cluster

CARDS = 2
ROUNDS = 3
ASK_FOR_THE_CARD = """\
import json, os, sys
from pyspark import TaskContext
from pyspark.sql import SparkSession

def look(_):
    import time
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
seen = [tasks.mapPartitions(look).collect() for _ in range(rounds)]
with open(sys.argv[1], "w") as report:
    json.dump(seen, report)
"""


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What the tasks of several jobs in a row saw, on two executors of one card each."""
    folder = tmp_path_factory.mktemp("gpus")
    size = WorkerSize(cores=CARDS, memory="1400m", gpus=CARDS)
    with running_cluster(folder, size=size) as cluster:
        seen: list[list[dict[str, Any]]] = cluster.run(
            ASK_FOR_THE_CARD, CARDS, ROUNDS, properties=properties()
        )
        return seen


def properties() -> dict[str, str]:
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


def test_the_card_is_chosen_before_a_framework_is_imported_and_its_memory_grows(
    rounds: list[list[dict[str, Any]]],
) -> None:
    assert [task["early"] for task in rounds[0]] == [[]] * CARDS
    assert {task["growth"] for task in rounds[0]} == {"true"}


def test_cards_are_counted_as_nvidia_smi_counts_them(rounds: list[list[dict[str, Any]]]) -> None:
    assert {task["order"] for task in rounds[0]} == {"PCI_BUS_ID"}


def test_a_card_that_is_not_there_is_a_clear_error(rounds: list[list[dict[str, Any]]]) -> None:
    assert all("A GPU was asked for" in task["said"] for tasks in rounds for task in tasks)
