"""An independent reader that follows the captions table while jobs run and die.

It looks at every version, from a thread of its own, and notes whatever breaks the promise.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hdfs import InsecureClient
from hdfs.util import HdfsError
from requests.exceptions import RequestException

from tests.faults.delta_over_http import DeltaOverHttp, Row

OUTCOME = ("status", "reason", "caption", "score", "run_id", "captioned_at")
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Commits:
    """What one run added: `sizes` are rows per commit, `rows_before` stood there before it."""

    rows_before: int
    sizes: list[int] = field(default_factory=list)


class Observer:
    """What the table has held so far.

    Attributes:
        rows: the newest version's rows by path; one pipeline version is expected.
        complaints: broken promises, in words.
        commits: for each run, how many rows its versions added.
    """

    def __init__(self, client: InsecureClient, table: str, *, chunk_files: int) -> None:
        self._table = DeltaOverHttp(client, table)
        self._chunk_files = chunk_files
        self.rows: dict[str, Row] = {}
        self.complaints: list[str] = []
        self.commits: dict[str, Commits] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the table until the block ends."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        self.catch_up()

    def catch_up(self) -> None:
        """Read the versions that were committed since the last look."""
        while (added := self._table.advance()) is not None:
            where = f"version {self._table.version}"
            # A MERGE writes the rows of the files that it touches once more.
            if new := [row for row in added if row["path"] not in self.rows]:
                self._judge_commit(new, where)
            self._judge_rows(where)

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(POLL_SECONDS):
            try:
                self.catch_up()
            except (HdfsError, RequestException):
                continue  # HDFS is down just now: the same version is read again later

    def _judge_rows(self, where: str) -> None:
        rows = self._table.rows
        now = {row["path"]: row for row in rows}
        counts = Counter(row["path"] for row in rows)
        self.complaints += [f"{where}: {path} has {n} rows" for path, n in counts.items() if n > 1]
        self.complaints += [f"{where}: {path} is gone" for path in self.rows.keys() - now.keys()]
        self.complaints += [
            f"{where}: {path} was captioned again"
            for path, row in self.rows.items()
            if row["status"] == "captioned" and path in now and _outcome(now[path]) != _outcome(row)
        ]
        self.rows = now

    def _judge_commit(self, added: list[Row], where: str) -> None:
        runs = {row["run_id"] for row in added}
        if len(runs) != 1 or len(added) > self._chunk_files:
            self.complaints.append(f"{where} adds {len(added)} rows of runs {sorted(runs)}")
        commits = self.commits.setdefault(runs.pop(), Commits(len(self.rows)))
        commits.sizes.append(len(added))


def parts_of_chunks(
    runs: Mapping[str, Commits], *, night_files: int, first_files: int, chunk_files: int
) -> dict[str, list[int]]:
    """Return, by run, the sizes of commits that held something else than the planned chunk.

    A run may end before its last chunk, but only with what was pending may a chunk end early.
    Nights land one after another, each when all before it are done.
    """
    odd: dict[str, list[int]] = {}
    for run, commits in runs.items():
        pending = night_files - commits.rows_before % night_files
        planned = planned_chunks(pending, first_files=first_files, chunk_files=chunk_files)
        pairs = zip(commits.sizes, itertools.chain(planned, itertools.repeat(0)), strict=False)
        if sizes := [size for size, plan in pairs if size != plan]:
            odd[run] = sizes
    return odd


def planned_chunks(pending: int, *, first_files: int, chunk_files: int) -> Iterator[int]:
    """Yield the sizes of the chunks in which so many files are captioned."""
    yield min(first_files, pending)
    for start in range(first_files, pending, chunk_files):
        yield min(chunk_files, pending - start)


def _outcome(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in OUTCOME)
