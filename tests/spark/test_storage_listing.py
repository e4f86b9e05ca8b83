"""Listing local input: every visible file once, whatever its name."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conf.errors import InputError, LakeError
from storage.listing import list_files
from storage.paths import qualify

ODD_NAMES = [
    ":",
    "a:b.jpg",
    "[x].jpg",
    "{y}*?.jpg",
    "100%.jpg",
    "%20",
    "#q?",
    "é日",
    "n\nl",
    "'\"\\",
]


def put(path: Path, content: bytes = b"x") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"file:{path}"


def listed(spark: SparkSession, path: Path | str, **options: bool | str) -> list[str]:
    table = list_files(spark, f"file:{path}", **options)  # type: ignore[arg-type]
    return list(table["path"].to_pylist())


@pytest.mark.parametrize(
    "spelling",
    ["{0}", "file:{0}", "file://{0}", "file:///{0}", "{0}/", "{0}/../{1}", "file://localhost{0}"],
)
def test_one_file_has_one_text_however_it_is_spelled(
    spark: SparkSession, tmp_path: Path, spelling: str
) -> None:
    uri = spelling.format(tmp_path, tmp_path.name)
    assert qualify(spark, uri, env_local=True) == f"file:{tmp_path}"


def test_a_bare_name_means_the_current_folder_in_the_local_environment(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert qualify(spark, "lake", env_local=True) == f"file:{tmp_path}/lake"
    assert qualify(spark, "2026:a b%20", env_local=True) == f"file:{tmp_path}/2026:a b%20"


def test_a_local_uri_with_a_slash_too_few_is_refused(spark: SparkSession) -> None:
    with pytest.raises(InputError, match="names a machine 'data'"):
        qualify(spark, "file://data/in", env_local=True)


def test_an_unknown_filesystem_is_an_input_error_of_one_line(spark: SparkSession) -> None:
    with pytest.raises(InputError) as error:
        qualify(spark, "nonesuch://bucket/x", env_local=True)
    assert "nonesuch" in str(error.value)
    assert "\n" not in str(error.value)


def test_every_name_is_listed_as_it_is(spark: SparkSession, tmp_path: Path) -> None:
    paths = [put(tmp_path / "in" / f"d{name}" / name) for name in ODD_NAMES]
    assert listed(spark, tmp_path / "in") == sorted(paths)


def test_a_folder_whose_name_looks_written_out_is_taken_literally(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in (b"\xff", rb"\xff"):
        put(tmp_path / os.fsdecode(name) / "a.jpg")
    assert listed(spark, tmp_path) == [
        rf"file:{tmp_path}/\x5cxff/a.jpg",
        rf"file:{tmp_path}/\xff/a.jpg",
    ]
    assert listed(spark, rf"{tmp_path}/\xff") == [rf"file:{tmp_path}/\x5cxff/a.jpg"]
    assert listed(spark, rf"{tmp_path}/\x5cxff") == [rf"file:{tmp_path}/\x5cxff/a.jpg"]


def test_a_folder_whose_name_looks_like_a_glob_is_taken_literally(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = put(tmp_path / "in[1]*" / "a.jpg")
    put(tmp_path / "in1x" / "b.jpg")
    assert listed(spark, tmp_path / "in[1]*") == [path]


def test_a_single_file_is_input(spark: SparkSession, tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", b"123")
    (row,) = list_files(spark, path).to_pylist()
    assert (row["path"], row["file_size_bytes"]) == (path, 3)


def test_times_are_exact_to_the_microsecond(spark: SparkSession, tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_700_000_000_123_456_789))
    (row,) = list_files(spark, path).to_pylist()
    assert row["mtime"] == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)


def test_hidden_names_below_the_input_are_left_out_and_those_above_are_not(
    spark: SparkSession, tmp_path: Path
) -> None:
    root = tmp_path / "_landing" / ".night"
    kept = put(root / "seen.jpg")
    for name in ("_SUCCESS", ".x.jpg", "b.jpg._COPYING_", "_tmp/c.jpg", "x/.y/d.jpg"):
        put(root / name)
    assert listed(spark, root) == [kept]


def test_a_glob_skips_what_is_hidden(spark: SparkSession, tmp_path: Path) -> None:
    kept = [put(tmp_path / "a" / "1.jpg"), put(tmp_path / "b" / "2.jpg")]
    put(tmp_path / "_c" / "3.jpg")
    assert listed(spark, tmp_path / "*") == kept
    assert listed(spark, tmp_path / "{a,b}" / "*.jpg") == kept


@pytest.mark.parametrize("pattern", ["*", "?.jpg", "{[^a]*,b}"])
def test_a_glob_reaches_a_name_that_is_no_utf_8(
    spark: SparkSession, tmp_path: Path, pattern: str
) -> None:
    put(tmp_path / "in" / os.fsdecode(b"\xff.jpg"))
    assert listed(spark, tmp_path / "in" / pattern) == [rf"file:{tmp_path}/in/\xff.jpg"]


def test_an_escaped_character_of_a_glob_is_meant_literally(
    spark: SparkSession, tmp_path: Path
) -> None:
    kept = [put(tmp_path / "a*[b]" / name) for name in ("1.jpg", "n\nl.jpg")]
    put(tmp_path / "a*[b]" / "deeper" / "_hidden.jpg")
    put(tmp_path / "ax[b]" / "2.jpg")
    put(tmp_path / "file")
    assert listed(spark, rf"{tmp_path}/a\*\[b\]/*.jpg") == kept
    assert listed(spark, rf"{tmp_path}/{{a\*\[b\],none}}/*.jpg") == kept


def test_overlapping_matches_of_a_glob_list_a_file_once(
    spark: SparkSession, tmp_path: Path
) -> None:
    kept = put(tmp_path / "a" / "b" / "1.jpg")
    assert listed(spark, tmp_path / "{a,a/b}") == [kept]


def test_include_narrows_by_the_files_name(spark: SparkSession, tmp_path: Path) -> None:
    kept = put(tmp_path / "x.png" / "a.jpg")
    put(tmp_path / "b.png")
    assert listed(spark, tmp_path, include="*.jpg") == [kept]
    with pytest.raises(InputError, match=r"no visible file whose name matches '\*.tiff'"):
        listed(spark, tmp_path, include="*.tiff")


def test_a_loop_of_links_ends(spark: SparkSession, tmp_path: Path) -> None:
    kept = put(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in")
    assert listed(spark, tmp_path / "in") == [kept]


def test_a_dead_link_is_listed_and_a_pipe_is_not(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert listed(spark, tmp_path) == [f"file:{tmp_path}/dead.jpg"]


def test_a_missing_an_unmatched_and_an_empty_input_are_told_apart(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="There is no input"):
        listed(spark, tmp_path / "nowhere")
    with pytest.raises(InputError, match="Nothing matches"):
        listed(spark, tmp_path / "x*")
    with pytest.raises(InputError, match="Nothing matches"):
        listed(spark, tmp_path / "{x/y,z}")
    with pytest.raises(InputError, match="no visible file"):
        listed(spark, tmp_path)


def test_a_demanded_marker_is_looked_for_in_each_folder_that_the_input_names(
    spark: SparkSession, tmp_path: Path
) -> None:
    kept = [put(tmp_path / day / "a.jpg") for day in ("d1", "d2")]
    put(tmp_path / "d1" / "_SUCCESS")
    with pytest.raises(InputError, match="d2 has no _SUCCESS"):
        listed(spark, tmp_path / "d*", require_success=True)
    put(tmp_path / "d2" / "_SUCCESS")
    assert listed(spark, tmp_path / "d*", require_success=True) == kept


@pytest.mark.parametrize("lake", ["in/lake", ".", "in"])
def test_a_lake_and_an_input_inside_one_another_are_refused(
    spark: SparkSession, tmp_path: Path, lake: str
) -> None:
    put(tmp_path / "in" / "a.jpg")
    where = qualify(spark, str(tmp_path / lake), env_local=True)
    with pytest.raises(LakeError, match="lie in one another"):
        list_files(spark, f"file:{tmp_path}/in", lake_uri=where)
