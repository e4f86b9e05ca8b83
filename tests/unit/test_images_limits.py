"""Decompression bombs are refused by their headers, before anything is allocated."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from types import ModuleType

import cv2
import numpy as np
import pytest

from models.image_decoding import is_out_of_memory
from models.images import DecodeLimits, preprocess_image
from tests.images.drawing import HEIGHT, SIDE, WIDTH, draw
from tests.images.encoding import pillow, png, png_chunk, tiff

HUGE = 60_000


def claim_size(data: bytes, at: int, form: str) -> bytes:
    return data[:at] + struct.pack(form, HUGE, HUGE) + data[at + struct.calcsize(form) :]


def huge_webp() -> bytes:
    sides = (16_383).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


JPEG = pillow(draw(), "JPEG")
BOMBS = {
    "jpeg": claim_size(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH"),
    "png": claim_size(pillow(draw(), "PNG"), 16, ">II"),
    "webp": huge_webp(),
    "gif": claim_size(pillow(draw(), "GIF"), 6, "<HH"),
    "bmp": claim_size(pillow(draw(), "BMP"), 18, "<ii"),
    "tiff": tiff(b"\0" * 99, size=(HUGE, HUGE), bits=8),
    "tiff tile": tiff(b"\0" * 99, size=(8, 8), bits=8, extra={322: HUGE, 323: HUGE}),
}


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("native code was given a bomb")

    monkeypatch.setattr(cv2, "imdecode", refuse)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("name", BOMBS)
def test_a_claim_of_too_many_pixels_never_reaches_native_code(name: str) -> None:
    outcome = preprocess_image(BOMBS[name], size=SIDE)
    assert outcome.reason == "too_large"
    assert outcome.format == name.split(maxsplit=1)[0]


@pytest.mark.usefixtures("no_decoding")
def test_a_file_of_too_many_bytes_is_not_even_looked_at() -> None:
    outcome = preprocess_image(JPEG, size=SIDE, limits=DecodeLimits(max_file_bytes=len(JPEG) - 1))
    assert outcome[1:5] == (None, None, None, "too_large")


def test_the_limit_on_pixels_is_the_last_size_that_decodes() -> None:
    exactly = DecodeLimits(max_pixels=WIDTH * HEIGHT)
    assert preprocess_image(JPEG, size=SIDE, limits=exactly).reason is None
    less = DecodeLimits(max_pixels=WIDTH * HEIGHT - 1)
    assert preprocess_image(JPEG, size=SIDE, limits=less).reason == "too_large"


def test_deep_samples_count_by_their_bytes() -> None:
    deep = png(draw().astype(np.uint16) * 257, bits=16, colour=2)
    limits = DecodeLimits(max_pixels=WIDTH * HEIGHT)
    assert preprocess_image(deep, size=SIDE, limits=limits).reason == "too_large"


def test_a_rejected_bomb_still_tells_its_size() -> None:
    assert preprocess_image(BOMBS["png"], size=SIDE)[1:3] == (HUGE, HUGE)


def test_a_progressive_jpeg_of_hundreds_of_scans_is_refused() -> None:
    progressive = pillow(draw(), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    outcome = preprocess_image(progressive[:-2] + last_scan * 500 + b"\xff\xd9", size=SIDE)
    assert outcome.reason == "too_large"


def test_compressed_text_in_a_png_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []

    def spy(data: np.ndarray, flags: int) -> object:
        given.append(data.tobytes())
        return decode(data, flags)

    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", spy)
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10_000_000)))
    outcome = preprocess_image(
        png(draw().astype(np.uint16), bits=8, colour=2, extra=bomb), size=SIDE
    )
    assert outcome.reason is None
    assert b"zTXt" not in given[0]


def test_refusing_a_bomb_takes_no_memory() -> None:
    tracemalloc.start()
    preprocess_image(BOMBS["png"], size=SIDE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("field", ["max_file_bytes", "max_pixels", "timeout_seconds"])
def test_limits_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        DecodeLimits(**{field: 0})


@pytest.mark.parametrize(
    ("module", "function"), [(cv2, "imdecode"), (cv2, "resize"), (np, "frombuffer")]
)
@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        cv2.error("alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
        cv2.error("std::bad_alloc"),
    ],
    ids=["python", "opencv", "c++"],
)
def test_a_lack_of_memory_lies_in_the_moment_and_not_in_the_bytes(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, failure: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(module, function, fail)
    outcome = preprocess_image(JPEG, size=SIDE)
    assert (outcome.reason, outcome.detail) == ("worker_killed", "not enough memory to decode")
    assert outcome[:3] == (None, WIDTH, HEIGHT)


def test_what_opencv_raises_is_a_bug_unless_memory_was_lacking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(cv2.error) as real:
        cv2.resize(np.zeros((4, 4), np.uint8), (2**31 - 1, 2**30))  # two exabytes
    assert is_out_of_memory(real.value)
    monkeypatch.setattr(cv2, "cvtColor", lambda *_: cv2.resize(np.zeros(0, np.uint8), (1, 1)))
    with pytest.raises(cv2.error, match="empty"):
        preprocess_image(JPEG, size=SIDE)
