"""Where a task's time goes: every stage is measured by itself, and so is the whole.

The stages of the task's own thread add up to the whole, but for the code between them:

    start     a new Python worker: from its birth to its first task
    load      the model, once per worker, and the keys of known images
    wait      for files from Spark or, where threads decode ahead, for those threads
    read      bytes of a file and their hash
    decode    pixels out of the bytes
    encode    the model's encoder
    generate  the caption's words
    write     rows made and handed over to Spark

With decode threads, `read` and `decode` happen beside the task's own thread, and are counted apart
as `read_ahead` and `decode_ahead`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pyspark.accumulators import AccumulatorParam

WORKER_STAGES = ("start", "load", "wait", "read", "decode", "encode", "generate", "write")
TASKS = "tasks"  # the whole
AHEAD = "_ahead"

Seconds = dict[str, float]
T = TypeVar("T")

_started_pid = 0


class TaskBudget:
    """The seconds of one task by stage; used by the task's own thread only."""

    def __init__(self, *, decodes_ahead: bool) -> None:
        """Begin the task now."""
        self._seconds: Seconds = {}
        self._suffix = AHEAD if decodes_ahead else ""
        self._begun = time.perf_counter()
        self._start = seconds_to_first_task()
        self.add("start", self._start)

    def add(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def add_preparation(self, *, read: float, decode: float) -> None:
        """Add what one file took in whichever thread prepared it."""
        self.add(f"read{self._suffix}", read)
        self.add(f"decode{self._suffix}", decode)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def waiting(self, items: Iterator[T]) -> Iterator[T]:
        """Pass the items on, and count the time until each is there as waiting."""
        end = object()
        while True:
            with self.measure("wait"):
                item = next(items, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    def finish(self) -> Seconds:
        """Return the stages and the whole."""
        return self._seconds | {TASKS: self._start + time.perf_counter() - self._begun}


def seconds_to_first_task() -> float:
    """Return the age of a worker that meets its first task, and 0 ever after."""
    global _started_pid  # noqa: PLW0603  # one flag per process is the point
    if _started_pid == os.getpid():
        return 0.0
    _started_pid = os.getpid()
    # Linux: field 22 is the start in ticks since boot; the name before it may hold anything.
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    born = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - born)


class SumOfSeconds(AccumulatorParam[Seconds]):
    """Adds up the budgets of all tasks; Spark counts each finished task once."""

    def zero(self, value: Seconds) -> Seconds:  # noqa: ARG002
        """Return the budget of no task."""
        return {}

    def addInPlace(self, value1: Seconds, value2: Mapping[str, float]) -> Seconds:  # noqa: N802
        """Add the second budget to the first."""
        for stage, seconds in value2.items():
            value1[stage] = value1.get(stage, 0.0) + seconds
        return value1


Account = Callable[[Seconds], object]


def ignore(seconds: Seconds) -> None:
    """Account for nothing."""
