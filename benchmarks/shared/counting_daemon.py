"""Spark's Python daemon, whose workers count inferences: `spark.python.daemon.module`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pyspark.daemon

COUNTS_VARIABLE = "BENCHMARK_COUNTS"
_worker = pyspark.daemon.worker


def counting_worker(sock: socket.socket, authenticated: bool) -> int:
    """Serve Spark as ever; nothing is imported before the daemon has forked."""
    from benchmarks.shared.counting import count_inferences

    count_inferences(Path(os.environ[COUNTS_VARIABLE]))
    return _worker(sock, authenticated)


if __name__ == "__main__":
    pyspark.daemon.worker = counting_worker
    pyspark.daemon.manager()
