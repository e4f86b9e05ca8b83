"""A seeded corpus of hostile files with the outcome that each must have.

Deterministic for a seed, all drawn here, at least 300 files with distinct bytes. Names are as
strange as a file system allows, and say nothing about the content's true type.
"""

from __future__ import annotations

import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np

from tests.images.catalogue import GoodFile, good_files
from tests.images.drawing import HEIGHT, WIDTH, draw, draw_grey
from tests.images.encoding import bmp, exif_of, pillow, png, png_chunk, tiff

CAPTIONED, REJECTED, EITHER = "captioned", "rejected", "either"
# Cut files of these kinds still hold the whole first picture.
WHOLE_BEFORE_THE_END = frozenset({"tiff-pages", "jpeg-mpo", "jpeg-trailing", "bmp-8-rle"})
CUT_REASONS = frozenset(
    {"truncated", "corrupt", "not_an_image", "unsupported_format", "out_of_range"}
)
STRANGE_NAMES = (
    "plain",
    "with space",
    "percent%20sign%",
    "hash#mark",
    "new\nline",
    "tab\tstop",
    "quote'\"`",
    "colon:and;semi",
    "brackets[1]{2,3}",
    "star*question?",
    "back\\slash",
    "ünïcödé",
    "日本語の写真",
    "e\u0301 decomposed",
    "emoji 📷",
    "-leading-dash",
    "$HOME $(true)",
    "plus+and&equals=",
    "at@host",
    "comma,comma",
    "trailing dots...",
    "x" * 180,
)
EXTENSIONS = ("jpg", "JPG", "png", "txt", "html", "jpeg", "gif", "", "tiff", "exe")


class HostileFile(NamedTuple):
    """One file: its name (no folder), content, outcome, and the reasons that a reject may have."""

    name: str
    data: bytes
    outcome: str
    reasons: frozenset[str] = frozenset()


def hostile_corpus(seed: int = 0) -> list[HostileFile]:
    """The files in an order that mixes all kinds; bytes are distinct but for the empty ones."""
    chance = random.Random(seed)
    files = [
        *_good_ones(),
        *_strangely_marked(),
        *_cut_ones(chance),
        *_flipped_ones(chance),
        *_noise_behind_signatures(chance),
        *_no_images(),
        *_unsupported_ones(),
        *_bombs(),
        *_out_of_range(),
        HostileFile("", b"", REJECTED, frozenset({"empty"})),
    ]
    distinct = list({file.data: file for file in files}.values())
    chance.shuffle(distinct)
    return [_named(file, number) for number, file in enumerate(distinct)]


def _named(file: HostileFile, number: int) -> HostileFile:
    extension = EXTENSIONS[number % len(EXTENSIONS)]
    strange = STRANGE_NAMES[number % len(STRANGE_NAMES)]
    return file._replace(name=f"{number:04} {strange}.{extension}".rstrip("."))


def _rejected(data: bytes, *reasons: str) -> HostileFile:
    return HostileFile("", data, REJECTED, frozenset(reasons))


def _good_ones() -> Iterator[HostileFile]:
    for file in good_files():
        yield HostileFile("", file.data, CAPTIONED)


def _strangely_marked() -> Iterator[HostileFile]:
    """Good pictures with orientation, broken EXIF, foreign chunks and trailing rubbish."""
    for orientation in range(1, 9):
        for form in ("JPEG", "PNG", "WEBP", "TIFF"):
            data = pillow(draw(), form, exif=exif_of(orientation))
            yield HostileFile("", data, CAPTIONED)
    for exif in (b"", b"rubbish", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"):
        data = png(draw().astype(np.uint16), bits=8, colour=2, extra=png_chunk(b"eXIf", exif))
        yield HostileFile("", data, CAPTIONED)
        plain = pillow(draw(), "JPEG")
        segment = b"Exif\0\0" + exif
        marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2)
        yield HostileFile("", plain[:2] + marker + segment + plain[2:], CAPTIONED)
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000)))
    data = png(draw().astype(np.uint16), bits=8, colour=2, extra=text)
    yield HostileFile("", data, CAPTIONED)
    yield HostileFile("", pillow(draw(), "PNG") + a_zip(), CAPTIONED)
    yield HostileFile("", pillow(np.zeros((1, 1), np.uint8), "PNG"), CAPTIONED)
    yield HostileFile("", pillow(np.zeros((1, 9000), np.uint8), "PNG"), CAPTIONED)


def _cut_ones(chance: random.Random) -> Iterator[HostileFile]:
    for file in good_files():
        if file.name in WHOLE_BEFORE_THE_END:
            continue
        for share in (0.02, chance.random(), 0.97):
            length = max(1, int(share * (len(file.data) - 8)))
            yield HostileFile("", file.data[:length], REJECTED, CUT_REASONS)
        if file.format == "jpeg":
            end = len(file.data) * 2 // 3
            zeroed = file.data[:end] + bytes(len(file.data) - end)
            yield HostileFile("", zeroed, REJECTED, CUT_REASONS)


def _flipped_ones(chance: random.Random) -> Iterator[HostileFile]:
    for file in good_files():
        for flips in (1, 16):
            yield HostileFile("", _flip(file, flips, chance), EITHER)


def _flip(file: GoodFile, flips: int, chance: random.Random) -> bytes:
    damaged = bytearray(file.data)
    for _ in range(flips):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _noise_behind_signatures(chance: random.Random) -> Iterator[HostileFile]:
    starts = sorted({file.data[:length] for file in good_files() for length in (4, 12, 30)})
    for start in chance.sample(starts, 30):
        yield HostileFile("", start + chance.randbytes(chance.randrange(10, 3000)), EITHER)


def a_zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt"), "text")
    return buffer.getvalue()


def _no_images() -> Iterator[HostileFile]:
    contents = (
        b"plain text",
        b"\0",
        bytes(5000),
        b" " * 5000,
        b"<!doctype html><html><body>404 Not Found</body></html>",
        b'{"error": "access denied"}',
        b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"#!/bin/sh\necho captioned\n",
        b"MZ" + bytes(500),
        b"\x7fELF\x02\x01\x01" + bytes(500),
        b"\x1f\x8b\x08" + bytes(100),
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(100),
        b"\0\0\0\x18ftypmp42" + bytes(100),
        b"ID3\x04" + bytes(100),
        b"PAR1" + bytes(100) + b"PAR1",
        b"SQLite format 3\0" + bytes(100),
        b"BM but no bitmap follows these letters",
        b"GIF88a is no version of it",
        "DROP TABLE captions; -- ünïcödé".encode("utf-16"),
        a_zip(),
        random.Random(9).randbytes(4000),
    )
    for data in contents:
        yield _rejected(data, "not_an_image")
    for data in (b"\xff\xd8", b"\x89PN", b"GIF8", b"II*", b"B"):
        yield _rejected(data, "truncated")


def _unsupported_ones() -> Iterator[HostileFile]:
    raw, size = draw_grey().tobytes(), (WIDTH, HEIGHT)
    jpeg = pillow(draw(), "JPEG")
    contents = (
        *(b"\0\0\0\x18ftyp" + brand + bytes(200) for brand in (b"heic", b"mif1", b"avif", b"avis")),
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"\xef\xbb\xbf<?xml version='1.0'?><!-- x --><svg/>",
        b"8BPS\0\x01" + bytes(200),
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        b"\xff\x4f\xff\x51" + bytes(200),
        b"\xff\x0a" + bytes(200),
        b"\0\0\x01\0\x01\0" + bytes(200),
        b"v/1\x01" + bytes(200),
        b"#?RADIANCE\n" + bytes(200),
        b"P6\n2 2\n255\n" + bytes(12),
        b"DDS " + bytes(200),
        b"gimp xcf file\0" + bytes(200),
        b"II*\0\x10\0\0\0CR\x02\0" + bytes(200),
        jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1),
        tiff(raw, size=size, bits=8, extra={259: 34925}),
        tiff(raw * 4, size=size, bits=32),
        tiff(raw * 2, size=size, bits=16, extra={339: 2}),
        tiff(raw, size=(WIDTH * 2, HEIGHT), bits=4),
        bmp(
            raw * 4,
            size=size,
            bits=32,
            compression=3,
            header_bytes=52,
            masks=(255, 65280, 16711680),
        ),
        bmp(jpeg, size=size, bits=0, compression=4),
    )
    for data in contents:
        yield _rejected(data, "unsupported_format")


def _bombs() -> Iterator[HostileFile]:
    """Headers that claim gigapixels, over next to nothing."""
    for side in (20_000, 65_000):
        jpeg, gif = pillow(draw(), "JPEG"), pillow(draw(), "GIF")
        frame = jpeg.index(b"\xff\xc0") + 5
        yield _rejected(
            jpeg[:frame] + struct.pack(">HH", side, side) + jpeg[frame + 4 :], "too_large"
        )
        yield _rejected(gif[:6] + struct.pack("<HH", side, side) + gif[10:], "too_large")
        header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
        rows = zlib.compress(bytes(5_000_000))
        chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
        yield _rejected(b"\x89PNG\r\n\x1a\n" + chunks, "too_large")
        yield _rejected(tiff(b"\0" * 99, size=(side, side), bits=8), "too_large")
        yield _rejected(bmp(b"\0" * 99, size=(side, side), bits=24), "too_large")
    progressive = pillow(draw(), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield _rejected(progressive[:-2] + scan * 2000 + b"\xff\xd9", "too_large")


def _out_of_range() -> Iterator[HostileFile]:
    for value in (-1.0, 1.5, 255.0, float("nan"), float("inf"), float("-inf")):
        samples = np.full((HEIGHT, WIDTH), 0.5, np.float32)
        samples[3, 4] = value
        data = tiff(samples.tobytes(), size=(WIDTH, HEIGHT), bits=32, extra={339: 3})
        yield _rejected(data, "out_of_range")
