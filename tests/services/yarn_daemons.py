"""A real Hadoop YARN on this machine: a ResourceManager and a NodeManager beside a real HDFS.

Its containers can't see the checkout, as those of other machines can't.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from tests.services.checkout import ROOT
from tests.services.hdfs_daemons import (
    SPARK_JARS,
    TEST_JARS,
    Daemon,
    Hdfs,
    free_ports,
    hadoop_jars,
    wait_for,
    write_xml,
)
from tests.services.hiding import without_sight_of

SERVER = "org.apache.hadoop.yarn.server"
NODE_MEGABYTES, NODE_CORES = 16_384, 8  # what the one node claims to have
ADDRESSES = (
    "yarn.resourcemanager.address",
    "yarn.resourcemanager.scheduler.address",
    "yarn.resourcemanager.resource-tracker.address",
    "yarn.resourcemanager.admin.address",
    "yarn.nodemanager.address",
    "yarn.nodemanager.localizer.address",
    "yarn.nodemanager.webapp.address",
    "yarn.nodemanager.collector-service.address",
)


class Yarn:
    """A cluster of one node.

    Attributes:
        configuration: what HADOOP_CONF_DIR names; HDFS is the default file system.
        spark_jars: where containers see Spark's jars, so that no run has to upload them.
    """

    def __init__(self, folder: Path, hdfs: Hdfs) -> None:
        web, *ports = free_ports(1 + len(ADDRESSES))
        self._web = f"127.0.0.1:{web}"
        self.configuration = folder / "conf"
        self.spark_jars = folder / "spark-jars"
        self._containers = folder / "local"
        self._write_configuration(folder, hdfs, ports)
        elsewhere = {SPARK_JARS: self.spark_jars, TEST_JARS: folder / "test-jars"}
        jars = hadoop_jars()
        self.resource_manager = Daemon(
            "ResourceManager",
            f"{SERVER}.resourcemanager.ResourceManager",
            _as_classpath([self.configuration, *jars]),
            folder / "resource_manager.log",
        )
        self.node_manager = Daemon(
            "NodeManager",
            f"{SERVER}.nodemanager.NodeManager",
            _as_classpath([self.configuration, *(_moved(jar, elsewhere) for jar in jars)]),
            folder / "node_manager.log",
            before=without_sight_of(ROOT, kept=elsewhere),
        )

    def start(self) -> None:
        """Start both daemons and wait until the node can take containers."""
        self.resource_manager.start()
        self.node_manager.start()
        wait_for(self._has_a_node, of=(self.resource_manager, self.node_manager))

    def stop(self) -> None:
        """End both; the NodeManager ends its containers first, and leaves gigabytes."""
        self.node_manager.end()
        self.resource_manager.end()
        shutil.rmtree(self._containers, ignore_errors=True)

    def applications(self) -> list[dict[str, Any]]:
        """Return what the ResourceManager tells of all applications, the oldest first."""
        told = self._ask("apps")["apps"] or {"app": []}
        return sorted(told["app"], key=lambda application: int(application["startedTime"]))

    def _has_a_node(self) -> bool:
        try:
            return bool(self._ask("metrics")["clusterMetrics"]["activeNodes"])
        except (URLError, OSError):
            return False

    def _ask(self, what: str) -> dict[str, Any]:
        with urlopen(f"http://{self._web}/ws/v1/cluster/{what}", timeout=5) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def _write_configuration(self, folder: Path, hdfs: Hdfs, ports: list[int]) -> None:
        shutil.copytree(hdfs.configuration, self.configuration)
        scheduler = f"{SERVER}.resourcemanager.scheduler.fifo.FifoScheduler"  # needs no file
        write_xml(
            self.configuration / "yarn-site.xml",
            {
                **{name: f"127.0.0.1:{port}" for name, port in zip(ADDRESSES, ports, strict=True)},
                "yarn.resourcemanager.webapp.address": self._web,
                "yarn.resourcemanager.scheduler.class": scheduler,
                "yarn.nodemanager.local-dirs": str(self._containers),
                "yarn.nodemanager.log-dirs": f"{folder}/logs",
                "yarn.nodemanager.resource.memory-mb": str(NODE_MEGABYTES),
                "yarn.nodemanager.resource.cpu-vcores": str(NODE_CORES),
                "yarn.scheduler.maximum-allocation-mb": str(NODE_MEGABYTES),
                # %: a disk that is nearly full would make the node unhealthy.
                "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": (
                    "100"
                ),
            },
        )


def _moved(jar: Path, elsewhere: dict[Path, Path]) -> Path:
    home = next(home for home in elsewhere if jar.is_relative_to(home))
    return elsewhere[home] / jar.relative_to(home)


def _as_classpath(parts: list[Path]) -> str:
    return os.pathsep.join(map(str, parts))


@contextlib.contextmanager
def running_yarn(folder: Path, hdfs: Hdfs) -> Iterator[Yarn]:
    """Yield a YARN that takes containers, and ends with the block."""
    yarn = Yarn(folder, hdfs)
    try:
        yarn.start()
        yield yarn
    finally:
        yarn.stop()
