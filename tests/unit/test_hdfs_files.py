"""A worker that reads HDFS itself: what it makes of failures, with a client that a test turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from conf.filesystem import HdfsAddress
from jobs.files import files_ahead
from models.reasons import Reason
from tests.services.submitting import wait_until
from udfs import hdfs_files
from udfs.hdfs_files import AssignedHdfsFiles, read_hdfs
from udfs.sources import Content

ADDRESS = HdfsAddress("hdfs://host:8020", "somebody", ())


class File:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads = 0

    def __len__(self) -> int:
        return len(self.content)

    def read(self) -> bytes:
        self.reads += 1
        return self.content


class Client:
    """Holds files by name; `trouble` may raise or wait whenever one is opened."""

    def __init__(self, trouble: Callable[[str], object] = lambda _: None) -> None:
        self.files: dict[str, File] = {}
        self.milliseconds = 1_000
        self.opened: list[str] = []
        self.connections = 0
        self._trouble = trouble

    def connected(self) -> Client:
        self.connections += 1
        return self

    def read(self, name: str) -> File:
        self.opened.append(name)
        self._trouble(name)
        return self.files[name]

    def get_file_info(self, name: str) -> Any:
        assert name in self.files
        return SimpleNamespace(modification_time=self.milliseconds)


class Panic(BaseException):
    """What an extension in Rust raises is no `Exception`."""


def contents(client: Client, count: int, patch: pytest.MonkeyPatch, **named: Any) -> list[Content]:
    """Read this many files in two units, one after the other."""
    patch.setattr(hdfs_files, "client_of", lru_cache(lambda _: client.connected()))
    names = [f"/in/{number}" for number in range(count)]
    client.files |= {name: File(name.encode()) for name in names}
    paths = [f"{ADDRESS.uri}{name}" for name in names]
    source = AssignedHdfsFiles([paths[:2], paths[2:]], 100, ADDRESS, **named)
    batches: Iterator[pa.RecordBatch] = iter([pa.RecordBatch.from_pydict({"id": [0, 1]})])
    files = list(source(batches))
    assert [file.path for file in files] == paths
    return [file.read() for file in files]


def test_every_file_of_the_units_is_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    read = contents(Client(), 11, monkeypatch, readers=3)
    assert [content.data for content in read] == [f"/in/{n}".encode() for n in range(11)]


def test_reading_goes_on_while_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(hdfs_files, "client_of", lambda _: client)
    client.files |= {f"/in/{number}": File(b"bytes") for number in range(20)}
    paths = [f"{ADDRESS.uri}{name}" for name in client.files]
    source = AssignedHdfsFiles([paths], 100, ADDRESS, readers=2, ahead=9)
    files = source(iter([pa.RecordBatch.from_pydict({"id": [0]})]))
    assert next(files).read().data == b"bytes"
    wait_until(lambda: len(client.opened) == 10)
    time.sleep(0.1)
    assert len(client.opened) == 10  # the one that was asked for, and no more than nine ahead
    assert len(list(files)) == 19


@pytest.mark.parametrize(
    ("largest_bytes", "files"), [(60_000, 64), (2**22, 16), (2**30, 4), (0, 64)]
)
def test_fewer_large_files_are_read_ahead(largest_bytes: int, files: int) -> None:
    assert files_ahead(largest_bytes, readers=4) == files


def test_a_failure_is_one_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        if name == "/in/1":
            raise Panic("first line\nsecond line")

    read = contents(Client(fail), 4, monkeypatch)
    assert [content.reason for content in read] == [None, Reason.UNREADABLE, None, None]
    assert read[1].detail == "first line"


def test_after_a_slow_failure_the_others_arent_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError("timed out")

    monkeypatch.setattr(hdfs_files, "SLOW_FAILURE_SECONDS", -1.0)
    client = Client(fail)
    read = contents(client, 9, monkeypatch, readers=1)
    assert {content.reason for content in read} == {Reason.UNREADABLE}
    assert client.opened == ["/in/0"]


def test_a_task_after_a_slow_failure_connects_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name node's host that lost its power never says that its connection is dead."""
    client = Client()
    contents(client, 3, monkeypatch)
    contents(client, 3, monkeypatch)
    assert client.connections == 2  # each call here is a worker of its own
    monkeypatch.setattr(hdfs_files, "SLOW_FAILURE_SECONDS", -1.0)
    source = AssignedHdfsFiles([[f"{ADDRESS.uri}/gone"]], 100, ADDRESS)
    for _ in range(2):
        batches: Iterator[pa.RecordBatch] = iter([pa.RecordBatch.from_pydict({"id": [0]})])
        assert [file.read().reason for file in source(batches)] == [Reason.UNREADABLE]
    assert client.connections == 3  # the first of these had one


def test_a_server_that_never_answers_holds_no_task_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs_files, "READ_SECONDS", 0.2)
    monkeypatch.setattr(hdfs_files, "SLOW_FAILURE_SECONDS", 0.1)
    end_of_test = threading.Event()
    read = contents(Client(lambda _: end_of_test.wait()), 9, monkeypatch, readers=2)
    assert (read[0].reason, read[0].detail) == (Reason.UNREADABLE, "no answer for 0 s")
    assert all(content is read[0] for content in read)  # it was waited for once
    end_of_test.set()


def test_a_file_over_the_limit_isnt_read() -> None:
    client = Client()
    file = client.files["/large"] = File(bytes(101))
    content = read_hdfs(client, "/large", 100)
    assert (content.data, content.length, content.reason) == (None, 101, Reason.TOO_LARGE)
    assert file.reads == 0


def test_a_time_before_1970_is_no_change() -> None:
    client = Client()
    client.files["/old"] = File(b"old")
    client.milliseconds = 2**64 - 86_400_000
    content = read_hdfs(client, "/old", 100)
    assert content.mtime is not None
    assert content.mtime.isoformat() == "1969-12-31T00:00:00+00:00"


def test_the_time_is_asked_after_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a file that is rewritten while it is being read differs from its listing."""
    client = Client()
    file = client.files["/a"] = File(b"old")

    def read_then_rewrite() -> bytes:
        client.milliseconds = 2_000
        return b"old"

    monkeypatch.setattr(file, "read", read_then_rewrite)
    content = read_hdfs(client, "/a", 100)
    assert content.mtime is not None
    assert content.mtime.timestamp() == 2.0
