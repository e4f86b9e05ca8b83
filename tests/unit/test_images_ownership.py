"""Pixels always belong to the bytes they were asked for, whatever was decoded before or beside."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.images import Preprocessed, preprocess_image
from tests.images.catalogue import good_files
from tests.images.encoding import pillow

SIZE = 24
GOOD = good_files()


def flat(colour: int, form: str) -> bytes:
    return pillow(np.full((40, 56, 3), colour, np.uint8), form)


def run(batch: list[bytes]) -> list[Preprocessed]:
    return [preprocess_image(data, size=SIZE) for data in batch]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_cut_file_between_good_ones_takes_no_pixels_from_them(form: str) -> None:
    white, grey, black = (flat(colour, form) for colour in (255, 128, 0))
    outcomes = run([white, grey[:-40], black, grey[: len(grey) // 2], white])
    assert [outcome.reason is None for outcome in outcomes] == [True, False, True, False, True]
    means = [outcome.pixels.mean() for outcome in outcomes if outcome.pixels is not None]
    assert means == [255, 0, 255]


def test_results_are_the_same_in_any_order_of_good_and_bad_files() -> None:
    chance = random.Random(5)
    batch = [file.data for file in GOOD]
    batch += [data[: chance.randrange(len(data))] for data in batch]
    alone = {data: fingerprint(preprocess_image(data, size=SIZE)) for data in batch}
    for _ in range(3):
        chance.shuffle(batch)
        assert [fingerprint(outcome) for outcome in run(batch)] == [alone[data] for data in batch]


def test_threads_do_not_mix_pixels() -> None:
    batch = [file.data for file in GOOD] * 6
    alone = [fingerprint(outcome) for outcome in run(batch)]
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda data: preprocess_image(data, size=SIZE), batch))
    assert [fingerprint(outcome) for outcome in beside] == alone


def test_pixels_outlive_the_next_decode() -> None:
    first = preprocess_image(flat(200, "PNG"), size=SIZE)
    run([flat(10, "PNG")] * 20)
    assert first.pixels is not None
    assert (first.pixels == 200).all()


def test_pixels_are_contiguous_bytes_of_one_shape() -> None:
    for file in GOOD:
        pixels = preprocess_image(file.data, size=SIZE).pixels
        assert pixels is not None
        assert pixels.shape == (SIZE, SIZE, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous


def fingerprint(outcome: Preprocessed) -> tuple[object, ...]:
    return (outcome.pixels.tobytes() if outcome.pixels is not None else None, *outcome[1:])
