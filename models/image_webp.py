"""WebP: canvas size and orientation, for still and animated files."""

from __future__ import annotations

from models.image_exif import read_orientation, swaps_sides
from models.image_layout import Layout
from models.image_reading import corrupt, truncated, unpack

_MAX_CHUNKS = 100_000
_ANIMATION = 0x02
_ANIMATED_BYTES_PER_PIXEL = 6  # libwebp keeps two canvases


def read_layout(data: bytes) -> Layout:
    """Layout of a WebP. Raises RefusedError, truncated where the file is shorter than it says."""
    (length,) = unpack("<I", data, 4)
    if length + 8 > len(data):
        raise truncated(f"{len(data)} of {length + 8} bytes")
    width, height = _read_size(data)
    is_extended = data[12:16] == b"VP8X"
    orientation = read_orientation(_find_exif(data)) if is_extended else 1
    is_animated = is_extended and bool(unpack("B", data, 20)[0] & _ANIMATION)
    return Layout(
        width,
        height,
        orientation=orientation,
        is_turned=swaps_sides(orientation),
        bytes_per_pixel=_ANIMATED_BYTES_PER_PIXEL if is_animated else 4,
    )


def _read_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        _, low, high = unpack("<IIH", data, 20)
        return (low & 0xFFFFFF) + 1, ((low >> 24) | (high << 8)) + 1
    if kind == b"VP8L":
        (bits,) = unpack("<I", data, 21)
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = unpack("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise corrupt(f"first chunk {kind!r}")


def _find_exif(data: bytes) -> bytes:
    offset = 12
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > len(data):
            break
        (length,) = unpack("<I", data, offset + 4)
        if data[offset : offset + 4] == b"EXIF":
            return data[offset + 8 : offset + 8 + length]
        offset += 8 + length + (length & 1)
    return b""
