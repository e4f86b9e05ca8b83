"""The pipeline's Python daemon, whose workers count inferences: `spark.python.daemon.module`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pyspark.daemon

import udfs.daemon  # noqa: F401  # what it imports for the workers
from benchmarks.shared.counting import count_inferences

COUNTS_VARIABLE = "BENCHMARK_COUNTS"
_worker = pyspark.daemon.worker


def counting_worker(sock: socket.socket, authenticated: bool) -> int:
    """Serve Spark as ever."""
    count_inferences(Path(os.environ[COUNTS_VARIABLE]))
    return _worker(sock, authenticated)


if __name__ == "__main__":
    pyspark.daemon.worker = counting_worker
    pyspark.daemon.manager()
