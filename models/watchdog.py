"""Ends the process when one decode never ends.

A loop inside native code can't be interrupted from Python, only with its process. So a thread
watches what is being decoded and, past the deadline, names the file and exits; Spark runs the task
again, and that attempt decodes in a child process (`models.isolation`), which makes the file a
reject.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

EXIT_CODE = 124  # what timeout(1) ends with
_LONGEST_TICK_SECONDS = 1.0

_running: dict[int, tuple[float, str]] = {}
_start_lock = threading.Lock()
_watcher_pid = 0  # a forked worker inherits this variable but not the thread


class guard:  # noqa: N801 - reads as the statement that it is: `with guard(path): ...`
    """Context in which one file is decoded; safe in several threads, costs about a microsecond.

    path names the file in the last words; the process ends timeout_seconds after entry.
    """

    __slots__ = ("_path", "_timeout_seconds")

    def __init__(self, path: str, *, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        if _watcher_pid != os.getpid():
            _start_watcher()
        _running[id(self)] = (time.monotonic() + self._timeout_seconds, self._path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _running.pop(id(self), None)


def _start_watcher() -> None:
    global _watcher_pid  # noqa: PLW0603 - one thread per process is the point
    with _start_lock:
        if _watcher_pid != os.getpid():
            _running.clear()
            threading.Thread(target=_watch, name="decode-watchdog", daemon=True).start()
            _watcher_pid = os.getpid()


def _watch() -> None:
    while True:
        running = list(_running.values())  # one step under the interpreter lock: no torn view
        now = time.monotonic()
        for deadline, path in running:
            if now > deadline:
                _end_process(path)
        nearest = min((deadline - now for deadline, _ in running), default=_LONGEST_TICK_SECONDS)
        time.sleep(min(_LONGEST_TICK_SECONDS, nearest + 0.01))


def _end_process(path: str) -> None:
    message = f"Decoding {path!r} exceeded its time limit; this worker ends, Spark tries again.\n"
    os.write(2, message.encode(errors="backslashreplace"))
    os._exit(EXIT_CODE)
