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
