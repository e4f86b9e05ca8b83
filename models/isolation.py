"""The same preprocessing in a child process, for files that kill or hang whoever decodes them.

A crash in native code, an endless loop or a memory blow-up ends the child only; the file becomes a
reject with a transient reason and the next one gets a new child. Slower by a copy of the bytes, so
the job uses it only where an earlier attempt of the same task died.

The child is a plain interpreter started with this one's module path, not a fork: a Spark worker
holds native threads (OpenVINO, OpenCV) that a fork would copy in the middle of their work.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Pipe
from typing import Self

from conf.errors import EnvironmentFault
from models.images import DecodeLimits, Preprocessed, preprocess_image
from models.reasons import Reason

Preprocess = Callable[..., Preprocessed]

# The largest image within the default limits needs about a gigabyte and a half.
DEFAULT_MEMORY_BYTES = 3 << 30
_START = "import sys; sys.path[:] = {path!r}; from models.isolation_child import serve; serve({fd})"
_START_SECONDS = 60.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class IsolatedPreprocessor:
    """Calls `preprocess_image` in a child process that may die.

    Several threads may share it; they take turns.

    Attributes:
        memory_bytes: address space that decoding may add to what the child has after its imports.
        function: what the child calls; tests put faults here.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        function: Preprocess = preprocess_image,
    ) -> None:
        self._setup = pickle.dumps((function, memory_bytes))
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def preprocess(self, data: bytes, *, size: int, limits: DecodeLimits) -> Preprocessed:
        """Do as `preprocess_image`; its outcomes and also decode_timeout and worker_killed.

        Raises EnvironmentFault where no child can be started.
        """
        with self._lock:
            if self._child is None or not self._child.is_alive():
                self._stop()
                self._child = _Child(self._setup)
            try:
                return self._child.ask(data, size=size, limits=limits)
            except TimeoutError:
                self._stop()
                return _transient(Reason.DECODE_TIMEOUT, f"more than {limits.timeout_seconds:g} s")
            except (EOFError, OSError):
                return _transient(Reason.WORKER_KILLED, f"its process {self._stop()}")

    @property
    def process_id(self) -> int | None:
        """The child's, while there is one."""
        return self._child.process_id if self._child else None

    def close(self) -> None:
        """End the child; a later call starts another."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        """Return itself; the child starts with the first call."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self.close()

    def _stop(self) -> str:
        """End the child, if there is one; how it ended, for people."""
        child, self._child = self._child, None
        return child.end() if child else "was not running"


class _Child:
    """One child process and the pipe to it."""

    def __init__(self, setup: bytes) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START.format(path=sys.path, fd=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a Spark worker's standard output may be a protocol
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ONE_THREAD},
            )
        try:
            self._pipe.send_bytes(setup)
            self._await(_START_SECONDS)
        except (OSError, EOFError):
            raise EnvironmentFault(
                f"The process that decodes in isolation {self.end()}.",
                remedy="See its message above, and whether memory or processes are exhausted.",
            ) from None

    @property
    def process_id(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, data: bytes, *, size: int, limits: DecodeLimits) -> Preprocessed:
        """One call. Raises TimeoutError where it takes too long, EOFError or OSError at a death."""
        self._pipe.send((size, limits))
        self._pipe.send_bytes(data)
        return self._await(limits.timeout_seconds)

    def end(self) -> str:
        """Kill it unless it is already dead; how it ended."""
        self._pipe.close()
        try:
            # One that is dying of its own needs a moment before its exit status is known.
            code = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def _await(self, seconds: float) -> Preprocessed:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        answer: Preprocessed = self._pipe.recv()
        return answer


def _transient(reason: Reason, detail: str) -> Preprocessed:
    return Preprocessed(None, None, None, None, reason.value, detail)
