"""Cutting pending files into commits and tasks."""

from __future__ import annotations

import pyarrow as pa

from conf.settings import CaptionSettings
from jobs.chunks import assign_units, chunk_limits, plan_chunks


def pending(*rows: tuple[str, str, int]) -> pa.Table:
    names = ["path", "batch", "file_size_bytes"]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


def test_chunks_hold_every_file_once() -> None:
    files = pending(*((f"f{index}", f"b{index % 3}", index % 7) for index in range(50)))
    chunks = list(plan_chunks(files, max_files=8, max_bytes=10**9, first_files=3))
    assert sorted(path for chunk in chunks for path in chunk.paths) == sorted(
        files.column("path").to_pylist()
    )
    assert [len(chunk.paths) for chunk in chunks] == [3, 8, 8, 8, 8, 8, 7]


def test_a_chunk_is_bounded_in_bytes_but_holds_one_file_at_least() -> None:
    files = pending(("a", "b", 4), ("c", "b", 5), ("d", "b", 50))
    chunks = list(plan_chunks(files, max_files=10, max_bytes=9, first_files=10))
    assert [chunk.paths for chunk in chunks] == [["a", "c"], ["d"]]


def test_equal_sizes_meet_in_one_unit() -> None:
    files = pending(*((f"f{index}", "b", index // 2) for index in range(20)))
    units = assign_units(files, unit_files=5, slots=2)
    assert len(units) == 4
    for index in range(0, 20, 2):
        assert any({f"f{index}", f"f{index + 1}"} <= set(unit) for unit in units)


def test_units_are_balanced_by_count() -> None:
    files = pending(*((f"f{index}", "b", index) for index in range(1000)))
    units = assign_units(files, unit_files=250, slots=2)
    assert [len(unit) for unit in units] == [250, 250, 250, 250]


def test_files_of_one_size_are_not_all_given_to_one_unit() -> None:
    files = pending(*((f"f{index}", "b", 7) for index in range(1000)), ("small", "b", 1))
    units = assign_units(files, unit_files=251, slots=4)
    assert sorted(path for unit in units for path in unit) == sorted(files["path"].to_pylist())
    assert [len(unit) for unit in units] == [251, 251, 251, 248]


def test_chunks_grow_with_the_cluster_unless_they_are_set() -> None:
    settings = CaptionSettings(partition_files=256)
    assert chunk_limits(settings, slots=2) == (2048, 2**30)
    assert chunk_limits(settings, slots=100) == (25_600, 100 * 2**28)
    assert chunk_limits(CaptionSettings(chunk_files=7, chunk_bytes=9), slots=100) == (7, 9)


def test_no_pending_files_make_no_chunk() -> None:
    assert list(plan_chunks(pending(), max_files=1, max_bytes=1, first_files=1)) == []


def test_tasks_are_awaited_at_the_beginning_and_at_the_end_of_a_run() -> None:
    files = pending(*((f"f{index}", "b", index) for index in range(10)))
    chunks = list(plan_chunks(files, max_files=2, max_bytes=10**9, first_files=2))
    assert [chunk.is_awaited for chunk in chunks] == [True, False, False, False, True]
