"""Ways in which a part of a running job dies without warning."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import psutil

from tests.services.cluster import Cluster
from tests.services.hdfs_daemons import Hdfs
from tests.services.submitting import Submission

EXECUTOR = "CoarseGrainedExecutorBackend"
REBOOT_SECONDS = (1.0, 15.0)
PYTHON_DAEMON = "udfs.daemon"


@dataclass
class Stage:
    """What can be struck.

    Attributes:
        hdfs: where input and lake lie.
        cluster: where the tasks run.
        job: the submitted job under way.
        random: decides whom it hits.
    """

    hdfs: Hdfs
    cluster: Cluster
    job: Submission
    random: Random


Strike = Callable[[Stage], bool]
"""Kills one thing and returns whether there was one to kill."""


def kill_python_worker(stage: Stage) -> bool:
    """Kill a process that decodes and infers; Spark runs its task again."""
    below = [one for executor in _executors(stage) for one in _below(executor.pid)]
    daemons = [one for one in below if PYTHON_DAEMON in _command(one)]
    heads = {one.pid for one in daemons}
    # The daemon forks the workers; what a worker starts is another matter.
    return _kill_one(stage, [one for one in daemons if one.ppid() in heads])


def kill_executor(stage: Stage) -> bool:
    """Kill an executor's JVM; the cluster starts another."""
    return _kill_one(stage, _executors(stage))


def kill_worker(stage: Stage) -> bool:
    """Kill a node's Spark worker, whose executors end with it; the node comes back later."""
    worker = stage.random.choice(stage.cluster.workers)
    worker.kill()
    return True


def kill_data_node(stage: Stage) -> bool:
    """Kill the only DataNode: for some seconds nothing can be read or written."""
    stage.hdfs.data_node.kill()
    time.sleep(stage.random.uniform(*REBOOT_SECONDS))
    stage.hdfs.data_node.start()
    return True


def kill_driver(stage: Stage) -> bool:
    """Kill the script, the driver's JVM and Python: the night's run is gone."""
    stage.job.kill_all()
    return True


STRIKES: tuple[Strike, ...] = (
    kill_python_worker,
    kill_executor,
    kill_worker,
    kill_data_node,
    kill_driver,
)
SURVIVED: frozenset[Strike] = frozenset({kill_python_worker, kill_executor, kill_worker})
"""Those that a job survives: Spark repeats what was lost."""


def _executors(stage: Stage) -> list[psutil.Process]:
    workers = [worker.pid for worker in stage.cluster.workers if worker.poll() is None]
    return [one for pid in workers for one in _below(pid) if EXECUTOR in _command(one)]


def _below(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _kill_one(stage: Stage, processes: list[psutil.Process]) -> bool:
    if not processes:
        return False
    with suppress(psutil.NoSuchProcess):
        stage.random.choice(processes).kill()
        return True
    return False
