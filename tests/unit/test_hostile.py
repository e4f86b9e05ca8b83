"""The hostile corpus is what it says it is, and decoding gives each file its outcome."""

from __future__ import annotations

import pytest

from models.images import preprocess_image
from tests.hostile import CAPTIONED, EITHER, HostileFile, hostile_corpus

CORPUS = hostile_corpus()


def test_the_corpus_is_large_distinct_and_repeatable() -> None:
    assert len(CORPUS) >= 300
    assert len({file.name for file in CORPUS}) == len(CORPUS)
    assert len({file.data for file in CORPUS}) == len(CORPUS)
    assert hostile_corpus() == CORPUS


def test_names_fit_into_any_file_system() -> None:
    assert all(0 < len(file.name.encode()) <= 255 and "/" not in file.name for file in CORPUS)


def test_another_seed_makes_other_files() -> None:
    assert {file.data for file in hostile_corpus(1)} != {file.data for file in CORPUS}


@pytest.mark.parametrize("file", CORPUS, ids=[str(number) for number in range(len(CORPUS))])
def test_a_hostile_file_has_its_outcome(file: HostileFile) -> None:
    outcome = preprocess_image(file.data, size=32)
    if file.outcome == CAPTIONED:
        assert outcome.reason is None, outcome.detail
    elif file.outcome != EITHER:
        assert outcome.reason in file.reasons, outcome.detail
    assert (outcome.pixels is None) == (outcome.reason is not None)
