"""An independent reader that follows the captions table while jobs run and die.

It looks at every version, from a thread of its own, and notes whatever breaks the promise.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hdfs import InsecureClient
from hdfs.util import HdfsError
from requests.exceptions import RequestException

from tests.faults.delta_over_http import DeltaOverHttp, Row

OUTCOME = ("status", "reason", "caption", "score", "run_id", "captioned_at")
POLL_SECONDS = 0.3


class Observer:
    """What the table has held so far.

    Attributes:
        rows: the newest version's rows by path; one pipeline version is expected.
        complaints: broken promises, in words.
        commits: for each run, how many rows each of its versions added.
    """

    def __init__(self, client: InsecureClient, table: str, *, chunk_files: int) -> None:
        self._table = DeltaOverHttp(client, table)
        self._chunk_files = chunk_files
        self.rows: dict[str, Row] = {}
        self.complaints: list[str] = []
        self.commits: dict[str, list[int]] = {}

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

    def parts_of_chunks(self) -> dict[str, list[int]]:
        """Return, by run, the commits that are smaller than a chunk without a reason.

        The first chunk of a run is small on purpose, and the last holds what is left.
        """
        odd = {
            run: [size for size in sizes[1:-1] if size != self._chunk_files]
            for run, sizes in self.commits.items()
        }
        return {run: sizes for run, sizes in odd.items() if sizes}

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
        self.commits.setdefault(runs.pop(), []).append(len(added))


def _outcome(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in OUTCOME)
