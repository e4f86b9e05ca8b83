"""Squashing to the square: every shape, and no dependence on the processor."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from models.image_layout import Layout
from models.image_pixels import flatten_alpha
from models.images import preprocess_image, preprocessing_fingerprint
from tests.images.encoding import pillow


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5000), (32, 32), (33, 31)])
def test_any_shape_becomes_the_square(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), (10, 120, 250), np.uint8)
    pixels = preprocess_image(pillow(picture, "PNG"), size=32).pixels
    assert pixels is not None
    assert (pixels == (10, 120, 250)).all()


def test_an_image_of_the_square_s_own_size_is_untouched() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels = preprocess_image(pillow(picture, "PNG"), size=32).pixels
    assert np.array_equal(picture, np.asarray(pixels))


def test_shrinking_one_side_averages_although_the_other_grows() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (4, 320))  # a bilinear sample would alias
    pixels = preprocess_image(pillow(stripes, "PNG"), size=32).pixels
    assert pixels is not None
    assert abs(pixels.astype(int) - 128).max() <= 1


def test_a_scaled_down_jpeg_looks_as_if_decoded_in_full() -> None:
    y, x = np.mgrid[:512, :640]
    picture = np.stack([y / 4 + x / 8, 255 - x / 4, y / 3], axis=-1).astype(np.uint8)
    data = pillow(picture, "JPEG", quality=95)
    pixels = preprocess_image(data, size=100).pixels
    in_full = cv2.resize(picture, (100, 100), interpolation=cv2.INTER_AREA)
    assert pixels is not None
    assert np.abs(pixels.astype(int) - in_full).mean() < 1.5


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_is_exact_for_every_value(bits: int) -> None:
    white = (1 << bits) - 1
    values = np.unique(np.linspace(0, white, 256).astype(np.uint64))
    colour, alpha = np.meshgrid(values, values)
    image = np.stack([colour, colour, colour, alpha], axis=-1).astype(f"u{bits // 8}")
    twice = 2 * (colour * alpha + (white - alpha) * white)
    expected = (twice + white) // (2 * white)  # rounded to nearest
    assert np.array_equal(flatten_alpha(image, layout=Layout(1, 1))[..., 0], expected)


def test_the_fingerprint_is_stable_and_depends_on_the_size() -> None:
    assert preprocessing_fingerprint(size=64) == preprocessing_fingerprint(size=64)
    assert preprocessing_fingerprint(size=64) != preprocessing_fingerprint(size=65)


HASHES = """
import hashlib, sys
from models.images import preprocess_image, preprocessing_fingerprint
print(preprocessing_fingerprint(size=96))
pixels = preprocess_image(bytes.fromhex(sys.argv[1]), size=96).pixels
print(hashlib.sha256(pixels.tobytes()).hexdigest())
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENCV_IPP": "disabled"},
        {"OPENCV_CPU_DISABLE": "AVX512_SKX,AVX2,FMA3,FP16"},
        {"JSIMD_FORCENONE": "1"},
    ],
    ids="-".join,
)
def test_another_processor_makes_the_same_pixels(environment: dict[str, str]) -> None:
    photograph = pillow(
        np.kron(np.eye(60, 80)[..., None], np.full((4, 5, 3), 200)).astype(np.uint8), "JPEG"
    )
    here, there = (
        subprocess.run(
            [sys.executable, "-c", HASHES, photograph.hex()],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, environment)
    )
    assert here == there
