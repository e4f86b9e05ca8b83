"""The text of a path, its batch, and what is hidden."""

from __future__ import annotations

import pyarrow as pa
import pytest

from storage.entries import is_hidden
from storage.paths import (
    batch_of,
    batches_of,
    default_batch_depth,
    non_glob_prefix,
    overlaps,
    parent_of,
)
from storage.reading import top_folders


@pytest.mark.parametrize(
    ("path", "depth", "batch"),
    [
        ("hdfs://h:8020/landing/2026-11-23/a.jpg", 1, "2026-11-23"),
        ("hdfs://h:8020/landing/2026-11-23/a/b.jpg", 1, "2026-11-23/a"),
        ("hdfs://h:8020/landing/2026-11-23/a.jpg", 0, "landing/2026-11-23"),
        ("file:/landing/a.jpg", 1, "landing"),
        ("file:/landing/a.jpg", 5, "landing"),
        ("file:/a.jpg", 0, "/"),
        ("hdfs://h:8020/a.jpg", 3, "/"),
        ("file:/x'/y=z/%2F\n/a.jpg", 1, "y=z/%2F\n"),
    ],
)
def test_a_batch_is_the_folder_below_the_depth_and_never_empty(
    path: str, depth: int, batch: str
) -> None:
    assert batch_of(path, depth) == batch
    assert batches_of(pa.chunked_array([[path, path]]), depth).to_pylist() == [batch, batch]


@pytest.mark.parametrize(
    ("input_path", "depth"),
    [
        ("hdfs://h:8020/landing/2026-11-23", 1),
        ("hdfs://h:8020/landing", 0),
        ("hdfs://h:8020/", 0),
        ("file:/landing/2026-*", 1),
        ("file:/landing/*/photos", 1),
        ("file:/landing/{a,b}/c/d", 1),
        ("file:/*/a", 0),
        ("file:/data/in/", 1),
    ],
)
def test_a_new_lake_names_its_batches_from_the_input_on(input_path: str, depth: int) -> None:
    assert default_batch_depth(input_path) == depth


def test_the_part_before_a_glob_ends_at_a_whole_component() -> None:
    assert non_glob_prefix("hdfs://h:8020/a/b/c*d/e") == "hdfs://h:8020/a/b"
    assert non_glob_prefix("file:/plain") == "file:/plain"


def test_folders_overlap_only_by_whole_components() -> None:
    assert overlaps("file:/data", "file:/data/lake")
    assert overlaps("file:/data/lake/in", "file:/data/lake")
    assert overlaps("file:/data", "file:/data")
    assert overlaps("file:/", "file:/lake")
    assert not overlaps("file:/data", "file:/data-lake")


def test_the_parent_of_a_file_in_the_root_folder_is_the_root_folder() -> None:
    assert parent_of("file:/a.jpg") == "file:/"
    assert parent_of("hdfs://h:8020/a/b.jpg") == "hdfs://h:8020/a"


@pytest.mark.parametrize("name", ["_SUCCESS", "_x.jpg", ".x", "photo.jpg._COPYING_"])
def test_markers_and_unfinished_copies_are_hidden(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["a_.jpg", "a.b", "COPYING_.jpg", "x._COPYING_.jpg"])
def test_other_names_are_visible(name: str) -> None:
    assert not is_hidden(name)


def test_folders_inside_others_are_not_listed_twice() -> None:
    assert top_folders({"h:/a/b", "h:/a", "h:/a-b", "h:/c/d"}) == ["h:/a-b", "h:/a", "h:/c/d"]
