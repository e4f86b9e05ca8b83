"""Reading a file as it is, and saying why it can't be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.filesystem import LATEST_US, local_path, mtime_of, text_of_local
from storage.local_files import stat_local, walk_local
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


CONFUSABLE = [b"\xff.jpg", rb"\xff.jpg", rb"\x5cxff.jpg", b"\\\xff.jpg", rb"\\xff.jpg", b"\xc3\xa9"]
names = st.lists(st.sampled_from([b"\\", b"x", b"5c", b"ff", b"7f", b"\xff", b"\xc3\xa9"]))


@given(st.one_of(names.map(b"".join), st.binary()))
def test_a_local_name_comes_back_from_its_text(name: bytes) -> None:
    text = text_of_local(os.fsdecode(name))
    assert os.fsencode(local_path(text)) == name
    assert text.encode("utf-8").decode("utf-8") == text


@pytest.mark.parametrize("path", ["/a b/100%/#x.jpg", r"/a\b\x.jpg", r"/\x41.jpg", "/é日\n"])
def test_an_ordinary_local_path_is_the_operating_system_s_own(path: str) -> None:
    assert text_of_local(path) == f"file:{path}"
    assert local_path(f"file:{path}") == path


def test_names_that_look_alike_as_text_are_listed_and_read_apart(tmp_path: Path) -> None:
    for name in CONFUSABLE:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    listed = [entry.path for entry in walk_local(f"file:{tmp_path}")]
    assert len(set(listed)) == len(CONFUSABLE)
    assert {read_local(path, MOST_BYTES).data for path in listed} == set(CONFUSABLE)
    assert rf"file:{tmp_path}/\xff.jpg" in listed


def test_a_folder_whose_name_is_no_utf_8_is_walked(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xe9t\xe9")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    (entry,) = walk_local(text_of_local(str(folder)))
    assert entry.path == rf"file:{tmp_path}/\xe9t\xe9/a.jpg"
    assert read_local(entry.path, MOST_BYTES).data == b"x"
