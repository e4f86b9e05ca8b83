"""EXIF orientation: honoured once in every format that carries it, harmless when broken."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from models.images import preprocess_image
from tests.images.drawing import SIDE, differences, draw, square
from tests.images.encoding import exif_of, pillow, png, png_chunk

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}


def turn(picture: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """The picture as Pillow turns it."""
    image = Image.fromarray(picture)
    image.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_shown_upright(form: str, orientation: int) -> None:
    data = pillow(draw(), form, exif=exif_of(orientation), **FORMATS[form])
    outcome = preprocess_image(data, size=SIDE)
    # Squashing and turning commute: the upright square is the square turned.
    expected = turn(np.rint(square(draw())).astype(np.uint8), orientation)
    distances = differences(outcome.pixels, expected.astype(np.float64))
    assert distances.mean() <= 4 if form == "JPEG" else distances.max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_reported_size_is_the_upright_one(orientation: int) -> None:
    outcome = preprocess_image(pillow(draw(), "JPEG", exif=exif_of(orientation)), size=SIDE)
    assert (outcome.height, outcome.width) == turn(draw(), orientation).shape[:2]


def test_orientation_six_turns_clockwise() -> None:
    outcome = preprocess_image(pillow(draw(), "PNG", exif=exif_of(6)), size=SIDE)
    assert differences(outcome.pixels, np.rot90(square(draw()), -1)).max() <= 1


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    data = pillow(draw(), "PNG", exif=exif_of(orientation))
    assert differences(preprocess_image(data, size=SIDE).pixels, square(draw())).max() <= 1


BROKEN_EXIF = {
    "empty": b"",
    "no byte order": b"XX*\0\x08\0\0\0",
    "directory past the end": b"II*\0\xff\xff\xff\x7f",
    "directory inside itself": b"II*\0\0\0\0\0",
    "more entries than bytes": b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 1, 3, 1, 1),
    "orientation as text": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 2, 1, 6) + bytes(4),
    "many orientations": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 99, 6) + bytes(4),
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF.keys())
def test_broken_exif_turns_nothing(exif: bytes) -> None:
    data = png(draw().astype(np.uint16), bits=8, colour=2, extra=png_chunk(b"eXIf", exif))
    assert differences(preprocess_image(data, size=SIDE).pixels, square(draw())).max() <= 1


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF.keys())
def test_broken_exif_in_jpeg_turns_nothing(exif: bytes) -> None:
    plain = pillow(draw(), "JPEG", quality=95)
    segment = b"Exif\0\0" + exif
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    outcome, expected = preprocess_image(data, size=SIDE), preprocess_image(plain, size=SIDE)
    assert outcome.pixels is not None
    assert expected.pixels is not None
    assert np.array_equal(outcome.pixels, expected.pixels)


def test_the_first_orientation_in_a_png_counts() -> None:
    both = b"".join(png_chunk(b"eXIf", exif_of(value).tobytes()) for value in (3, 6))
    data = png(draw().astype(np.uint16), bits=8, colour=2, extra=both)
    shown = square(draw())[::-1, ::-1]
    assert differences(preprocess_image(data, size=SIDE).pixels, shown).max() <= 1
