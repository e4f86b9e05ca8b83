"""Reading a file as it is, and saying why it can't be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest

from conf.filesystem import LATEST_US, mtime_of
from storage.local_files import stat_local
from storage.remote_files import parse_statuses
from udfs.sources import content_rows, read_local

MOST_BYTES = 1000


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder whose filesystem keeps any modification time."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def varint(value: int) -> bytes:
    more = value >> 7
    return bytes([value & 0x7F | 0x80]) + varint(more) if more else bytes([value])


@pytest.mark.parametrize("seconds", [10**12, -(10**12)])
def test_listing_and_reading_agree_on_a_time_that_no_table_can_hold(
    memory_folder: Path, seconds: int
) -> None:
    path = memory_folder / "a.jpg"
    path.write_bytes(b"x")
    os.utime(path, (seconds, seconds))
    listed = stat_local(f"file:{path}")
    assert listed is not None
    assert read_local(f"file:{path}", MOST_BYTES).mtime == mtime_of(listed.mtime_us)


def test_a_status_of_hadoop_with_such_a_time_is_clamped_too() -> None:
    status = b"\x38" + varint(10**15)  # field 7, milliseconds
    data = (1).to_bytes(4, "big") + len(status).to_bytes(4, "big") + status
    assert parse_statuses(data)[0].mtime_us == LATEST_US


def test_a_row_of_spark_with_such_a_time_is_clamped_too() -> None:
    columns = {
        "path": ["hdfs://h/a"],
        "content": [b"x"],
        "mtime": pa.array([10**18], pa.timestamp("us", "UTC")),
    }
    (file,) = content_rows(iter([pa.RecordBatch.from_pydict(columns)]))
    assert file.read().mtime == mtime_of(LATEST_US)


def test_a_file_is_read_whole_up_to_the_limit(tmp_path: Path) -> None:
    for size in (0, 1, MOST_BYTES):
        (tmp_path / "a").write_bytes(bytes(size))
        assert read_local(f"file:{tmp_path}/a", MOST_BYTES).data == bytes(size)
    (tmp_path / "a").write_bytes(bytes(MOST_BYTES + 1))
    content = read_local(f"file:{tmp_path}/a", MOST_BYTES)
    assert (content.reason, content.length) == ("too_large", MOST_BYTES + 1)


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    content = read_local(f"file:{tmp_path}/a.jpg", MOST_BYTES)
    assert (content.data, content.reason) == (None, "unreadable")
    assert content.detail == "a pipe or a device, not a file"


def test_a_folder_in_the_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    assert read_local(f"file:{tmp_path}", MOST_BYTES)[3:] == ("unreadable", "Is a directory")


@pytest.mark.parametrize("grown_to", [MOST_BYTES, MOST_BYTES + 1, 100 * MOST_BYTES])
def test_a_file_that_grows_while_it_is_read_is_read_no_further_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grown_to: int
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    look = os.fstat

    def look_then_grow(descriptor: int) -> os.stat_result:
        status = look(descriptor)
        path.write_bytes(bytes(grown_to))
        return status

    monkeypatch.setattr(os, "fstat", look_then_grow)
    content = read_local(f"file:{path}", MOST_BYTES)
    assert content.length == min(grown_to, MOST_BYTES + 1)
    assert (content.reason == "too_large") == (grown_to > MOST_BYTES)
