"""Ending well when asked to: SIGTERM and Ctrl-C stop the work at a safe place.

A signal handler that raised would break the driver's conversation with the JVM halfway, and the
next answer read would belong to another question. So the job runs in a thread of its own, the main
thread takes the signals, and the job looks at the flag where it can stop.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pyspark import SparkContext

POLL_SECONDS = 0.2


class Terminated(Exception):
    """The process was asked to end."""


class Stop:
    """Whether the job is to end, and whether it is already writing down its end."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._is_closing = False
        self._context: SparkContext | None = None
        self._lock = threading.Lock()

    @property
    def is_asked(self) -> bool:
        """Whether the job was asked to end."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask the job to end; too late where it is ending, with an outcome that stays."""
        if not self._is_closing:
            self._asked.set()

    def check(self) -> None:
        """Raise Terminated if the job was asked to end."""
        if self.is_asked:
            raise Terminated

    def begin_closing(self) -> bool:
        """From here on Spark jobs are part of ending well; return whether the end was asked for."""
        with self._lock:
            self._is_closing = True
        return self.is_asked

    @contextmanager
    def cancelling(self, context: SparkContext) -> Iterator[None]:
        """Let `cancel_work` reach a context's jobs until the block ends."""
        self._context = context
        try:
            yield
        finally:
            with self._lock:
                self._context = None

    def cancel_work(self) -> None:
        """Cancel the Spark jobs under way, unless they are part of ending well."""
        with self._lock:
            if self.is_asked and not self._is_closing and self._context is not None:
                self._context.cancelAllJobs()


def run_stoppable(job: Callable[[Stop], None]) -> None:
    """Run the job in a thread until it ends; call from the main thread.

    Raises:
        Terminated: the job was asked to end and did not finish before.
        BaseException: whatever else the job raised.
    """
    stop = Stop()
    failure: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(job, stop, failure), name="job", daemon=True)
    _ask_on_signals(stop)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        stop.cancel_work()
    if failure:
        raise Terminated if stop.is_asked else failure[0]


def _run(job: Callable[[Stop], None], stop: Stop, failure: list[BaseException]) -> None:
    try:
        job(stop)
    except BaseException as error:  # noqa: BLE001 - raised again in the main thread
        failure.append(error)


def _ask_on_signals(stop: Stop) -> None:
    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.ask()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
