"""Resident memory of a process and its descendants over time, by what they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PERIOD_SECONDS = 2.0
JVM, DRIVER, WORKERS = "JVM", "Python driver", "Python workers"


@dataclass
class MemoryLog:
    """MiB of each kind of process, one sample per period; workers count by the largest one."""

    samples: list[dict[str, float]] = field(default_factory=list)

    def quarters(self, kind: str) -> list[float]:
        """Return the peak of each quarter of the time."""
        values = [sample.get(kind, 0.0) for sample in self.samples]
        size = max(1, -(-len(values) // 4))
        return [max(values[first : first + size]) for first in range(0, len(values), size)]


@contextmanager
def watching_memory(pid: int, *, period_seconds: float = PERIOD_SECONDS) -> Iterator[MemoryLog]:
    """Sample the process tree below `pid` until the block ends."""
    log, ended = MemoryLog(), threading.Event()

    def watch() -> None:
        while not ended.wait(period_seconds):
            log.samples.append(_sample(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield log
    finally:
        ended.set()
        watcher.join()


def _sample(pid: int) -> dict[str, float]:
    largest: dict[str, float] = {}
    for one in _descendants(pid):
        kind = _kind(one)
        if kind:
            largest[kind] = max(largest.get(kind, 0.0), _mebibytes(one))
    return largest


def _kind(pid: int) -> str | None:
    command = _read(pid, "cmdline").replace("\0", " ")
    if "SparkSubmit" in command:
        return JVM
    if "daemon" in command:
        return WORKERS
    return DRIVER if "jobs/" in command and "python" in command else None


def _mebibytes(pid: int) -> float:
    lines = _read(pid, "status").splitlines()
    kibibytes = next((line.split()[1] for line in lines if line.startswith("VmRSS")), "0")
    return int(kibibytes) / 1024


def _descendants(pid: int) -> list[int]:
    """Return the process and its descendants; a child belongs to the thread that started it."""
    threads = [thread.name for thread in Path(f"/proc/{pid}/task").glob("*")]
    children = [child for name in threads for child in _read(pid, f"task/{name}/children").split()]
    return [pid, *(one for child in children for one in _descendants(int(child)))]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:  # just ended
        return ""
