"""Where a task's files come from: paths that the worker opens itself, or rows with the bytes."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from conf.filesystem import local_path, mtime_of
from models.reasons import Reason


class Content(NamedTuple):
    """What one reading of a file gave: its bytes, or the reason why there are none.

    Attributes:
        data: the whole file; None if it couldn't be read or is over the limit.
        length: size in bytes at the time of reading; None if unknown.
        mtime: modification time (UTC) at the time of reading; None if unknown.
        reason: code of `models.reasons` where `data` is None.
        detail: what the system said, for a person.
    """

    data: bytes | None
    length: int | None = None
    mtime: datetime | None = None
    reason: Reason | None = None
    detail: str | None = None


class SourceFile(NamedTuple):
    """One file of a task; `read` is called in the thread that decodes it."""

    path: str
    read: Callable[[], Content]


Source = Callable[[Iterator[pa.RecordBatch]], Iterator[SourceFile]]


@dataclass(frozen=True)
class AssignedLocalFiles:
    """Files on the executor's own file system, by number of the task's unit of work.

    Attributes:
        units: for each unit, the `file:` paths that belong to it.
        max_bytes: larger files stay unread.
    """

    units: Sequence[Sequence[str]]
    max_bytes: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[SourceFile]:
        """Yield the files of the units in column `id`."""
        for batch in batches:
            for unit in batch.column("id").to_pylist():
                for path in self.units[unit]:
                    yield SourceFile(path, lambda path=path: read_local(path, self.max_bytes))  # type: ignore[misc]


def content_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[SourceFile]:
    """Yield the files of rows `path, content, mtime` that Spark has read."""
    for batch in batches:
        for index, path in enumerate(batch.column("path").to_pylist()):
            yield SourceFile(path, lambda batch=batch, index=index: _content_at(batch, index))  # type: ignore[misc]


def read_local(path: str, max_bytes: int) -> Content:
    """Read a `file:` path of at most `max_bytes` bytes; a failure becomes a reason."""
    try:
        with io.FileIO(local_path(path), opener=_open_at_once) as file:
            return _read_open(file, max_bytes)
    except FileNotFoundError:
        return Content(None, reason=Reason.VANISHED, detail="gone since it was listed")
    except OSError as failure:
        return Content(None, reason=Reason.UNREADABLE, detail=os.strerror(failure.errno or 0))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, in case a pipe has taken the file's place."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read_open(file: io.FileIO, max_bytes: int) -> Content:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return Content(None, reason=Reason.UNREADABLE, detail="a pipe or a device, not a file")
    mtime = mtime_of(status.st_mtime_ns // 1000)
    if status.st_size > max_bytes:
        return too_large(status.st_size, mtime, max_bytes)
    data = _read_at_most(file, max_bytes + 1, expected=status.st_size)
    if len(data) > max_bytes:  # it has grown since
        return too_large(len(data), mtime, max_bytes)
    return Content(data, len(data), mtime)


def _read_at_most(file: io.FileIO, most_bytes: int, *, expected: int) -> bytes:
    """Read to the end, but no further than `most_bytes`; one part, uncopied, where it fits."""
    parts: list[bytes] = []
    left = most_bytes
    while left and (part := file.read(min(left, expected + 1))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def too_large(length: int, mtime: datetime, max_bytes: int) -> Content:
    """Return what a reading gives that stops before a file of this length."""
    detail = f"{length} bytes, limit {max_bytes}"
    return Content(None, length, mtime, Reason.TOO_LARGE, detail)


def _content_at(batch: pa.RecordBatch, index: int) -> Content:
    data = batch.column("content")[index].as_py()
    microseconds = batch.column("mtime")[index].value  # as_py() fails past the year 9999
    return Content(data, len(data), None if microseconds is None else mtime_of(microseconds))
