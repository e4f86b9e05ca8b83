"""Files on HDFS that the worker reads itself, with no JVM in between.

The client (`hdfs-native`) speaks HDFS's own protocols, verifies its checksums, and releases the
interpreter while it waits. What it can't read isn't judged here: the file is read again by Spark,
whose word counts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any

import pyarrow as pa

from conf.filesystem import HdfsAddress, mtime_of
from models.reasons import Reason
from udfs.sources import Content, SourceFile, too_large

LEAST_READERS = 4
READ_SECONDS = 60.0  # the client itself waits for ever for a NameNode that doesn't answer
SLOW_FAILURE_SECONDS = 5.0
_DETAIL_CHARACTERS = 200

_one_client = Lock()


@dataclass(frozen=True)
class AssignedHdfsFiles:
    """Files on one HDFS, by number of the task's unit of work.

    Attributes:
        units: for each unit, the qualified `hdfs:` paths that belong to it.
        max_bytes: larger files stay unread.
        address: where the files lie, and as whom they are read.
        readers: threads of a task that read.
        ahead: files of a task that are read, or being read, before they are asked for: about a
            batch, so that reading goes on while the model computes.
    """

    units: Sequence[Sequence[str]]
    max_bytes: int
    address: HdfsAddress
    readers: int = LEAST_READERS
    ahead: int = LEAST_READERS

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[SourceFile]:
        """Yield the files of the units in column `id`, while the next ones are being read.

        A file that can't be read has the reason `unreadable`, whatever the cause.
        """
        units = (unit for batch in batches for unit in batch.column("id").to_pylist())
        reading = _TaskReading(self.address, self.max_bytes, self.readers)
        ahead: deque[SourceFile] = deque()
        try:
            for path in (path for unit in units for path in self.units[unit]):
                future = reading.submit(path)
                ahead.append(SourceFile(path, lambda future=future: reading.result(future)))  # type: ignore[misc]
                if len(ahead) > self.ahead:
                    while len(ahead) > max(self.readers, self.ahead // 2):
                        yield ahead.popleft()
            while ahead:  # none is kept for those after it
                yield ahead.popleft()
        finally:
            reading.close()


class _TaskReading:
    """Reads the files of one task; after one slow failure it leaves the others to Spark.

    Its threads are daemons: one that waits for a server must not keep the process from ending, as
    those of an executor of `concurrent.futures` do.
    """

    def __init__(self, address: HdfsAddress, max_bytes: int, readers: int) -> None:
        self._address = address
        self._max_bytes = max_bytes
        self._given_up: Content | None = None
        self._submitted: SimpleQueue[tuple[str, Future[Content]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(readers)]
        for thread in self._threads:
            thread.start()

    def submit(self, path: str) -> Future[Content]:
        """Have a file read after those before it."""
        future: Future[Content] = Future()
        self._submitted.put((path, future))
        return future

    def result(self, future: Future[Content]) -> Content:
        """Wait for a file, but not for ever, and once for all files."""
        if self._given_up is not None and not future.done():
            return self._given_up
        try:
            return future.result(timeout=READ_SECONDS)
        except TimeoutError:
            failure = TimeoutError(f"no answer for {READ_SECONDS:.0f} s")
            return self._failed(failure, seconds=READ_SECONDS)

    def close(self) -> None:
        """Let the threads end after what was submitted."""
        for _ in self._threads:
            self._submitted.put(None)

    def _work(self) -> None:
        while (submitted := self._submitted.get()) is not None:
            path, future = submitted
            future.set_result(self._read(path))

    def _read(self, path: str) -> Content:
        if self._given_up is not None:
            return self._given_up
        started = monotonic()
        try:
            with _one_client:
                client = client_of(self._address)
            return read_hdfs(client, self._address.name_of(path), self._max_bytes)
        except BaseException as failure:  # noqa: BLE001  # its panics are no Exception
            return self._failed(failure, seconds=monotonic() - started)

    def _failed(self, failure: BaseException, *, seconds: float) -> Content:
        first_line = (str(failure).splitlines() or [type(failure).__name__])[0]
        detail = first_line[:_DETAIL_CHARACTERS]
        content = Content(None, reason=Reason.UNREADABLE, detail=detail)
        if seconds > SLOW_FAILURE_SECONDS:
            self._given_up = content
            client_of.cache_clear()  # its connection may be dead without a word
        return content


def read_hdfs(client: Any, name: str, max_bytes: int) -> Content:
    """Read a file of at most `max_bytes` bytes.

    Args:
        client: an `hdfs_native.Client`.
        name: the path without scheme and authority.
        max_bytes: a larger file isn't read.

    Raises:
        Exception: it can't be read.
    """
    file = client.read(name)
    data: bytes | None = file.read() if len(file) <= max_bytes else None
    # Asked for last: a file that was rewritten meanwhile shows a time that wasn't listed.
    status = client.get_file_info(name)
    mtime = mtime_of(_signed(status.modification_time) * 1000)
    return (
        too_large(len(file), mtime, max_bytes) if data is None else Content(data, len(data), mtime)
    )


def _signed(milliseconds: int) -> int:
    """Times before 1970 come as unsigned 64 bit integers."""
    return milliseconds - 2**64 if milliseconds >= 2**63 else milliseconds


@lru_cache(maxsize=1)
def client_of(address: HdfsAddress) -> Any:
    """Return this process's client; it may be used by several threads."""
    from hdfs_native import Client  # whose threads don't survive a fork

    os.environ["HADOOP_USER_NAME"] = address.user  # read whenever it connects
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")  # else one per core, in each worker
    return Client(address.uri, dict(address.configuration))
