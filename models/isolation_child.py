"""What the child process of `models.isolation` runs: preprocess, answer, again."""

from __future__ import annotations

import math
import os
import pickle
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import cv2

_GRACE_SECONDS = 5


def serve(descriptor: int) -> None:
    """Answer calls on the pipe until the parent is gone.

    First message: the pickled (function, memory_bytes). Then, for each call, (size, limits) and
    the bytes; each answer is what the function returned.
    """
    pipe = Connection(descriptor)
    function, memory_bytes = pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own parent
    cv2.setNumThreads(1)
    _limit_memory(memory_bytes)
    pipe.send(None)
    while True:
        try:
            size, limits = pipe.recv()
            data = pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        # The parent ends an overlong call. Should it be gone, this alarm does, in native code too.
        signal.alarm(math.ceil(limits.timeout_seconds) + _GRACE_SECONDS)
        pipe.send(function(data, size=size, limits=limits))
        signal.alarm(0)


def _limit_memory(more_bytes: int) -> None:
    """Let the address space grow by so much and no further; write no core files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
