"""Bytes that are cut, damaged or no image at all: a reason, never an exception or false pixels."""

from __future__ import annotations

import random
import zipfile
from io import BytesIO

import numpy as np
import pytest

from models.images import preprocess_image
from tests.images.catalogue import GoodFile, good_files
from tests.images.drawing import HEIGHT, SIDE, WIDTH, draw, draw_grey
from tests.images.encoding import bmp, pack_bits, pillow, png, png_chunk, tiff

FILES = {file.name: file for file in good_files()}
HEADER_GONE = {"not_an_image", "corrupt"}
RGB = draw().astype(np.uint16)


def reason_of(data: bytes) -> str | None:
    return preprocess_image(data, size=SIDE).reason


def lengths(data: bytes) -> list[int]:
    """Every length near both ends, and a spread of those between."""
    middle = random.Random(len(data)).sample(range(len(data)), min(60, len(data)))
    near_ends = [*range(1, 40), *range(len(data) - 40, len(data))]
    return sorted({length for length in (*near_ends, *middle) if 0 < length < len(data)})


# Later pages and images, trailing bytes and a run-length file's last marks hold no pixel of ours.
WHOLE_BEFORE_THE_END = {"tiff-pages", "jpeg-mpo", "jpeg-trailing", "bmp-8-rle"}


@pytest.mark.parametrize(
    "file",
    [file for name, file in FILES.items() if name not in WHOLE_BEFORE_THE_END],
    ids=lambda file: file.name,
)
def test_a_file_cut_at_any_length_is_rejected(file: GoodFile) -> None:
    reasons = {length: reason_of(file.data[:length]) for length in lengths(file.data)}
    assert not [length for length, reason in reasons.items() if reason is None]
    late = {reason for length, reason in reasons.items() if length > 600}
    assert late <= {"truncated", "corrupt"}


@pytest.mark.parametrize("name", ["jpeg-baseline", "jpeg-progressive", "png-rgb8", "webp-lossy"])
def test_the_common_formats_name_the_cut(name: str) -> None:
    data = FILES[name].data
    assert {reason_of(data[:length]) for length in range(12, len(data))} == {"truncated"}


def test_a_jpeg_whose_tail_was_zeroed_is_truncated() -> None:
    data = FILES["jpeg-baseline"].data
    half = len(data) * 3 // 4
    assert reason_of(data[:half] + bytes(len(data) - half)) == "truncated"


def test_a_jpeg_that_lost_its_middle_is_not_filled_with_grey() -> None:
    data = FILES["jpeg-baseline"].data
    assert reason_of(data[: len(data) * 3 // 4] + b"\xff\xd9") == "truncated"


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_decode_or_reject(name: str) -> None:
    chance, data = random.Random(name), FILES[name].data
    for _ in range(25):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 8))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        outcome = preprocess_image(bytes(damaged), size=SIDE)
        assert (outcome.pixels is None) == (outcome.reason is not None)


def test_damaged_png_pixels_are_corrupt() -> None:
    data = bytearray(FILES["png-rgb8"].data)
    data[data.index(b"IDAT") + 30] ^= 0xFF
    assert reason_of(bytes(data)) == "corrupt"


def a_zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt"), "text")  # of a fixed date
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\xff", "truncated"),
        (b"\xff\xd8", "truncated"),
        (b"\x89PNG", "truncated"),
        (b"hello, world", "not_an_image"),
        (b"BMW and other cars, described in words", "not_an_image"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not_an_image"),
        (b"<!doctype html><html><body>404</body></html>", "not_an_image"),
        (b"<?xml version='1.0'?><note>no picture</note>", "not_an_image"),
        (b"%PDF-1.7 and so on", "not_an_image"),
        (a_zip(), "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"\0\0\0\x18ftypmp42" + bytes(99), "not_an_image"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "unsupported_format"),
        (b"\0\0\0\x1cftypavif" + bytes(99), "unsupported_format"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"8BPS\0\x01" + bytes(99), "unsupported_format"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "unsupported_format"),
        (b"\0\0\x01\0\x01\0" + bytes(99), "unsupported_format"),
        (b"P6\n2 2\n255\n" + bytes(12), "unsupported_format"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "unsupported_format"),
    ],
    ids=repr,
)
def test_what_is_no_picture_for_us_says_why(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_an_unreadable_compression_of_tiff_is_unsupported() -> None:
    raw = draw_grey().tobytes()
    assert reason_of(tiff(raw, size=(WIDTH, HEIGHT), bits=8, extra={259: 34925})) == (
        "unsupported_format"
    )


def test_a_deep_tiff_in_separate_planes_is_unsupported_not_scrambled() -> None:
    raw = pack_bits(np.moveaxis(RGB * 257, -1, 0), 16, order="<")
    data = tiff(raw, size=(WIDTH, HEIGHT), bits=16, samples=3, photometric=2, extra={284: 2})
    assert reason_of(data) == "unsupported_format"


def test_a_tiff_of_signed_samples_is_unsupported() -> None:
    raw = draw_grey().astype(np.int16).tobytes()
    assert reason_of(tiff(raw, size=(WIDTH, HEIGHT), bits=16, extra={339: 2})) == (
        "unsupported_format"
    )


def test_a_bmp_of_unusual_channel_order_is_unsupported_not_miscoloured() -> None:
    raw = np.dstack([draw(), draw_grey()]).tobytes()
    masks = (0xFF, 0xFF00, 0xFF0000)
    data = bmp(raw, size=(WIDTH, HEIGHT), bits=32, compression=3, header_bytes=52, masks=masks)
    assert reason_of(data) == "unsupported_format"


def test_a_bmp_whose_pixels_begin_inside_its_palette_is_corrupt() -> None:
    data = bytearray(FILES["bmp-8"].data)
    data[10:14] = (54).to_bytes(4, "little")
    assert reason_of(bytes(data)) == "corrupt"


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan"), float("inf")])
def test_a_float_tiff_beyond_its_range_is_rejected(value: float) -> None:
    samples = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    samples[-1, -1] = value
    data = tiff(samples.tobytes(), size=(WIDTH, HEIGHT), bits=32, extra={339: 3})
    assert reason_of(data) == "out_of_range"


def test_a_twelve_bit_jpeg_is_unsupported() -> None:
    data = bytearray(FILES["jpeg-baseline"].data)
    data[data.index(b"\xff\xc0") + 4] = 12
    assert reason_of(bytes(data)) == "unsupported_format"


def test_a_lossless_jpeg_is_unsupported() -> None:
    data = FILES["jpeg-baseline"].data.replace(b"\xff\xc0", b"\xff\xc3", 1)
    assert reason_of(data) == "unsupported_format"


def test_a_gif_frame_outside_its_canvas_is_corrupt() -> None:
    data = bytearray(pillow(draw(), "GIF"))
    data[6:10] = bytes([WIDTH // 2, 0, HEIGHT // 2, 0])
    assert reason_of(bytes(data)) == "corrupt"


@pytest.mark.parametrize("side", ["width", "height"])
def test_an_image_without_pixels_is_corrupt(side: str) -> None:
    data = bytearray(png(RGB, bits=8, colour=2))
    at = 16 if side == "width" else 20
    data[at : at + 4] = bytes(4)
    assert reason_of(bytes(data)) == "corrupt"


def test_a_reject_keeps_what_the_header_told() -> None:
    outcome = preprocess_image(FILES["jpeg-baseline"].data[:-200], size=SIDE)
    assert outcome[1:5] == (None, None, "jpeg", "truncated")
    damaged = FILES["png-rgb8"].data[:60] + png_chunk(b"IEND", b"")
    assert preprocess_image(damaged, size=SIDE).format == "png"


def test_details_are_one_short_line() -> None:
    for data in (b"\n\r\0binary \xff" * 99, FILES["tiff-raw"].data[:99]):
        detail = preprocess_image(data, size=SIDE).detail
        assert detail is not None
        assert detail.isprintable()
        assert len(detail) < 200
