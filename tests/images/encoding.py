"""Image files of kinds that common encoders don't write, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Samples = npt.NDArray[np.integer[Any]]

# (x, y, step in x, step in y) of each pass
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
SHORT, LONG = 3, 4
ORIENTATION = 274


def pillow(
    image: npt.NDArray[Any] | Image.Image, form: str, mode: str = "", **options: Any
) -> bytes:
    """What Pillow writes, after conversion to `mode` where one is given."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, form, **options)
    return buffer.getvalue()


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def pack_bits(samples: Samples, bits: int, *, order: str = ">") -> bytes:
    """Rows of samples, `bits` each, most significant first; each row ends at a whole byte."""
    if bits >= 8:
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    flat = samples.reshape(len(samples), -1).astype(np.uint8)
    planes = np.unpackbits(flat[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(planes.reshape(len(samples), -1), axis=1).tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: Samples, *, bits: int, colour: int, extra: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of samples [H, W(, C)]; `extra` chunks come before the pixels."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"\0" + pack_bits(row[None], bits)
        for x, y, step_x, step_y in passes
        for row in samples[y::step_y, x::step_x]
    )
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def bmp(
    raw: bytes,
    *,
    size: tuple[int, int],
    bits: int,
    compression: int = 0,
    header_bytes: int = 40,
    masks: Sequence[int] = (),
    palette: bytes = b"",
) -> bytes:
    """A BMP of raw bottom-up rows (top-down for a negative height)."""
    header = struct.pack("<IiiHHII", header_bytes, *size, 1, bits, compression, len(raw))
    header += struct.pack("<iiII", 2835, 2835, len(palette) // 4, 0)
    header += struct.pack(f"<{len(masks)}I", *masks)
    header = header.ljust(header_bytes, b"\0")
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(raw), 0, 0, start) + header + palette + raw


def bmp_os2(raw: bytes, *, size: tuple[int, int]) -> bytes:
    """A BMP with the 12-byte header of OS/2 1.x, 24 bits per pixel."""
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, *size, 1, 24) + raw


def tiff(
    raw: bytes,
    *,
    size: tuple[int, int],
    bits: int,
    samples: int = 1,
    photometric: int = 1,
    extra: dict[int, int | list[int]] | None = None,
) -> bytes:
    """A little-endian TIFF of one uncompressed strip; `extra` are more tags, lists of SHORT too.

    Lists come between the directory and the pixels.
    """
    width, height = size
    tags: dict[int, int | list[int]] = {256: width, 257: height, 259: 1, 262: photometric}
    tags |= {277: samples, 278: height, 273: 0, 279: len(raw)}
    tags |= {258: [bits] * samples if samples > 2 else bits, **(extra or {})}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start + sum(2 * len(value) for value in tags.values() if isinstance(value, list))
    directory, lists = b"", b""
    for tag in sorted(tags):
        value = tags[tag]
        if isinstance(value, list):
            directory += struct.pack("<HHII", tag, SHORT, len(value), start + len(lists))
            lists += struct.pack(f"<{len(value)}H", *value)
        else:
            kind = LONG if tag in (256, 257, 273, 278, 279) or value > 0xFFFF else SHORT
            directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + lists + raw


def jpeg_without_segments(data: bytes, *markers: int) -> bytes:
    """The JPEG without the header segments of these marker codes."""
    kept, offset = [data[:2]], 2
    while data[offset + 1] != 0xDA:
        end = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        if data[offset + 1] not in markers:
            kept.append(data[offset:end])
        offset = end
    return b"".join([*kept, data[offset:]])
