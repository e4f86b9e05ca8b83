"""Bytes that a fuzzer made: each was new to the code that reads images."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.golden import fuzz_images
from tests.golden.fuzz_images import (
    CORPUS,
    MOST_ENTRIES,
    MOST_TOTAL_BYTES,
    check,
    preprocess,
    read_corpus,
    write_corpus,
)

ENTRIES = read_corpus()


@pytest.mark.parametrize("name", ENTRIES)
def test_a_fuzzed_file_has_one_outcome_within_the_limits(name: str) -> None:
    check(ENTRIES[name])


def test_the_corpus_reaches_every_format_both_ways() -> None:
    found = {(one.format, one.pixels is None) for one in map(preprocess, ENTRIES.values())}
    formats = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
    assert {(form, failed) for form in formats for failed in (True, False)} <= found


def described(archive: Path) -> list[tuple[object, ...]]:
    """All of an archive but its compressed bytes, which differ between builds of zlib."""
    with zipfile.ZipFile(archive) as opened:
        return [(one.filename, one.date_time, one.CRC) for one in opened.infolist()]


def test_the_corpus_is_small_and_packed_alike_from_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(ENTRIES) <= MOST_ENTRIES
    assert sum(map(len, ENTRIES.values())) <= MOST_TOTAL_BYTES
    monkeypatch.setattr(fuzz_images, "CORPUS", tmp_path / "again.zip")
    write_corpus(reversed(ENTRIES.values()))
    assert described(tmp_path / "again.zip") == described(CORPUS)
