"""Golden images: preprocessing still makes the very bytes that models were trained with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.images import preprocessing_fingerprint
from tests.golden.regenerate_images import ANSWERS, FINGERPRINT_SIZE, FOLDER, describe

GOLDEN: dict[str, Any] = json.loads(ANSWERS.read_text())


@pytest.mark.parametrize("name", GOLDEN["images"])
def test_a_golden_image_gives_its_golden_pixels(name: str) -> None:
    assert describe((FOLDER / name).read_bytes()) == GOLDEN["images"][name]


def test_every_golden_image_has_an_answer() -> None:
    images = {path.name for path in FOLDER.iterdir()} - {ANSWERS.name}
    assert images == set(GOLDEN["images"])


def test_the_fingerprint_is_the_golden_one() -> None:
    expected = GOLDEN["fingerprint_of_size_224"]
    assert preprocessing_fingerprint(size=FINGERPRINT_SIZE) == expected
