"""A real standalone Spark cluster on this machine: a master and workers, each with its own JVM.

It starts from pip's pyspark alone, can name GPUs that the machine doesn't have, and can hide a
folder from its executors, as another machine would.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyspark

from tests.services.hdfs_daemons import die_with_parent, free_ports
from tests.services.hiding import without_sight_of

SPARK_HOME = Path(pyspark.__file__).parent
START_SECONDS = 240.0
COMMON_PROPERTIES = {
    "spark.driver.host": "127.0.0.1",
    "spark.executor.memory": "600m",
    "spark.ui.enabled": "false",
}


@dataclass(frozen=True)
class WorkerSize:
    """What each worker offers.

    Attributes:
        cores: task slots.
        memory: memory for executors' heaps, in Spark's notation.
        gpus: addresses that the discovery script names, "0" and upwards.
    """

    cores: int = 2
    memory: str = "2g"
    gpus: int = 0


class Cluster:
    """A master and its workers; `uri` is what `--master` takes."""

    def __init__(self, folder: Path, *, size: WorkerSize, hidden: Path | None) -> None:
        port, web = free_ports(2)
        self.uri = f"spark://127.0.0.1:{port}"
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count()
        self._size = size
        self._hidden = hidden
        self._web = f"http://127.0.0.1:{web}/json/"
        self._master = self._start(
            _spark_class(SPARK_HOME, "master.Master", "--port", port, "--webui-port", web), "master"
        )

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker and return its process, which a test may kill."""
        number = next(self._numbers)
        home = self.folder / "spark" if self._hidden else SPARK_HOME
        size = ["-c", self._size.cores, "-m", self._size.memory]
        places = ["--work-dir", self.folder / f"work-{number}", "--webui-port", 0]
        properties = ["--properties-file", self._write_properties()]
        command = _spark_class(home, "worker.Worker", *size, *places, *properties, self.uri)
        worker = self._start([*self._hiding(), *command], f"worker-{number}", SPARK_HOME=str(home))
        self.workers.append(worker)
        self.wait_for_workers(len(self.workers))
        return worker

    def run(self, job: str, *arguments: object, properties: Mapping[str, str]) -> Any:
        """Run the source text of a job, and return what it writes as JSON to its first argument."""
        script, report = self.folder / "job.py", self.folder / "report.json"
        script.write_text(job)
        ended = self.submit(script, report, *arguments, properties=properties)
        if ended.returncode != 0:
            raise RuntimeError(f"The job ended with {ended.returncode}: {ended.stdout}")
        return json.loads(report.read_text())

    def submit(
        self, script: Path, *arguments: object, properties: Mapping[str, str], **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a job by Spark's own spark-submit; return how it ended, and all that it said."""
        properties = {**COMMON_PROPERTIES, **properties}
        options = [part for pair in properties.items() for part in ("--conf", "=".join(pair))]
        submit = [f"{SPARK_HOME}/bin/spark-submit", "--master", self.uri, *options]
        return subprocess.run(
            [*submit, str(script), *map(str, arguments)],
            env=os.environ | {"PYSPARK_PYTHON": sys.executable} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def replace_dead_workers(self) -> None:
        """Start a worker for each that has ended."""
        dead = [worker for worker in self.workers if worker.poll() is not None]
        self.workers = [worker for worker in self.workers if worker not in dead]
        for _ in dead:
            self.add_worker()

    def wait_for_workers(self, count: int) -> None:
        """Wait until the master counts so many live workers."""
        deadline = time.monotonic() + START_SECONDS
        while self._state().get("aliveworkers", -1) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} workers aren't there: see {self.folder}/*.log")
            time.sleep(0.1)

    def stop(self) -> None:
        for process in (*self.workers, self._master):
            process.kill()
            process.wait()

    def _state(self) -> dict[str, Any]:
        try:
            with urlopen(self._web, timeout=5) as answer:
                state: dict[str, Any] = json.load(answer)
        except (OSError, HTTPException, ValueError):  # not there yet, or not all of it
            return {}
        return state

    def _hiding(self) -> list[str]:
        """Spark itself may lie in the hidden folder."""
        if self._hidden is None:
            return []
        return without_sight_of(self._hidden, kept={SPARK_HOME: self.folder / "spark"})

    def _write_properties(self) -> Path:
        properties = self.folder / "worker.properties"
        script = self.folder / "discover_gpus.sh"
        addresses = json.dumps([str(number) for number in range(self._size.gpus)])
        script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": {addresses}}}\'\n')
        script.chmod(0o755)
        resource = "spark.worker.resource.gpu"
        lines = [f"{resource}.amount {self._size.gpus}", f"{resource}.discoveryScript {script}"]
        properties.write_text("\n".join(lines if self._size.gpus else []))
        return properties

    def _start(
        self, command: list[str], name: str, *, SPARK_HOME: str = str(SPARK_HOME)
    ) -> subprocess.Popen[bytes]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "PYTHONPATH"))}
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd="/",
                env=kept | {"SPARK_HOME": SPARK_HOME, "SPARK_LOCAL_IP": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads run in the child
            )


def _spark_class(home: Path, main_class: str, *arguments: object) -> list[str]:
    spark_class = str(home / "bin" / "spark-class")
    deploy_class = f"org.apache.spark.deploy.{main_class}"
    return [spark_class, deploy_class, "--host", "127.0.0.1", *map(str, arguments)]


@contextlib.contextmanager
def running_cluster(
    folder: Path, *, workers: int = 1, size: WorkerSize | None = None, hidden: Path | None = None
) -> Iterator[Cluster]:
    """Yield a cluster whose workers are registered; it ends with the block."""
    cluster = Cluster(folder, size=size or WorkerSize(), hidden=hidden)
    try:
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.stop()
