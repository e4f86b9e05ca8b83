"""A lake that can't be written or read just now: a clear error, and nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from conf.errors import LakeError
from models.package import ModelPackage
from tests.captioning import captions, fill, run_job, runs

FILES = 24
ROOM_KIB = 160
MORE_KIB = 40_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that has room for the tables' beginning only."""
    if os.geteuid() != 0:
        pytest.skip("Mounting a small disk takes root: use sudo.")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_KIB}k", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def arguments_of(folder: Path, lake: Path) -> dict[str, Any]:
    return {"input": str(folder / "in"), "lake": str(lake), "chunk_files": 4}


def test_a_full_disk_is_a_clear_error_and_with_room_the_run_goes_on(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path, small_disk: Path
) -> None:
    files = fill(tmp_path / "in", FILES)
    arguments = arguments_of(tmp_path, small_disk / "lake")
    with pytest.raises(LakeError, match=r"(?i)no space"):
        run_job(spark, tiny_package, **arguments)
    done = len(captions(small_disk / "lake"))
    assert done < FILES
    subprocess.run(["mount", "-o", f"remount,size={MORE_KIB}k", small_disk], check=True)
    run_job(spark, tiny_package, run_id="second", **arguments)
    assert [Path(row["path"]).name for row in captions(small_disk / "lake")] == [
        file.name for file in files
    ]
    assert runs(small_disk / "lake")["second"]["already_done"] == done


def test_a_commit_that_is_half_written_is_a_clear_error_and_nothing_is_lost(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 8)
    lake = tmp_path / "lake"
    run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
    before = captions(lake)
    fill(tmp_path / "in", 2, first_seed=100)
    with cut_short(last_commit(lake), 0.5), pytest.raises(LakeError, match="captions"):
        run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
    run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
    after = captions(lake)
    assert len(after) == 10
    assert [row for row in after if row in before] == before


def test_what_an_emptied_commit_held_is_captioned_again(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 8)
    lake = tmp_path / "lake"
    run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
    with cut_short(last_commit(lake), 0.0):
        assert len(captions(lake)) < 8
        run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
        rows = captions(lake)
    assert len(rows) == len({row["path"] for row in rows}) == 8


def last_commit(lake: Path) -> Path:
    return max((lake / "captions" / "_delta_log").glob("*.json"))


@contextmanager
def cut_short(commit: Path, share: float) -> Iterator[None]:
    """Leave only the first part of a file, its checksum away, as a lost disk cache would."""
    checksum = commit.with_name(f".{commit.name}.crc")
    whole = {file: file.read_bytes() for file in (commit, checksum)}
    checksum.unlink()
    commit.write_bytes(whole[commit][: int(len(whole[commit]) * share)])
    yield
    for file, content in whole.items():
        file.write_bytes(content)


def test_what_a_crash_in_the_middle_of_a_commit_leaves_is_not_seen(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 4)
    lake = tmp_path / "lake"
    run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
    table = lake / "captions"
    data = next(table.rglob("*.parquet"))
    (data.parent / "part-00000-orphan.snappy.parquet").write_bytes(data.read_bytes())
    (data.parent / "part-00001-torn.snappy.parquet").write_bytes(data.read_bytes()[:100])
    (table / "_delta_log" / ".00000000000000000009.json.1f2e.tmp").write_text('{"add":')
    fill(tmp_path / "in", 2, first_seed=50)
    run_job(spark, tiny_package, **arguments_of(tmp_path, lake))
    rows = captions(lake)
    assert len(rows) == len({row["path"] for row in rows}) == 6
