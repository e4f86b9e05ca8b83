"""Properties that hold for any bytes and any picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.images import DecodeLimits, Preprocessed, preprocess_image
from models.reasons import Reason
from tests.images.catalogue import good_files
from tests.images.encoding import pillow

SIZE = 16
LIMITS = DecodeLimits(max_file_bytes=1 << 20, max_pixels=1 << 20)
WHOLE = [file.data for file in good_files()]
BEGINNINGS = sorted({data[:12] for data in WHOLE})

bounded = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def is_sound(outcome: Preprocessed) -> bool:
    """Pixels or a known reason, never both, never neither."""
    if outcome.pixels is None:
        return outcome.reason in set(Reason) and bool(outcome.detail)
    return outcome.pixels.shape == (SIZE, SIZE, 3) and outcome.reason is None


@bounded
@given(st.binary(max_size=600))
def test_any_bytes_have_one_outcome(data: bytes) -> None:
    assert is_sound(preprocess_image(data, size=SIZE, limits=LIMITS))


@bounded
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=600))
def test_any_bytes_behind_a_true_signature_have_one_outcome(start: bytes, rest: bytes) -> None:
    assert is_sound(preprocess_image(start + rest, size=SIZE, limits=LIMITS))


@settings(bounded, max_examples=400)
@given(st.sampled_from(WHOLE), st.data())
def test_a_damaged_file_has_one_outcome(whole: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 40))
    patch = data.draw(st.binary(max_size=40))
    damaged = whole[:start] + patch + whole[start + length :]
    assert is_sound(preprocess_image(damaged, size=SIZE, limits=LIMITS))


pictures = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40).map(lambda s: (*s, 3))
)


@bounded
@given(pictures, st.sampled_from(["PNG", "BMP", "TIFF", "WEBP"]))
def test_lossless_formats_show_the_same_pixels(picture: npt.NDArray[Any], form: str) -> None:
    written = preprocess_image(pillow(picture, form, lossless=True), size=SIZE)
    reference = preprocess_image(pillow(picture, "PNG"), size=SIZE)
    assert written.pixels is not None
    assert reference.pixels is not None
    assert np.array_equal(written.pixels, reference.pixels)


@bounded
@given(pictures)
def test_the_square_stays_within_the_picture_s_values(picture: npt.NDArray[Any]) -> None:
    pixels = preprocess_image(pillow(picture, "PNG"), size=SIZE).pixels
    assert pixels is not None
    assert (pixels >= picture.min(axis=(0, 1))).all()
    assert (pixels <= picture.max(axis=(0, 1))).all()
