"""The one EXIF field that matters here: orientation. Broken EXIF means none."""

from __future__ import annotations

from models.image_reading import RefusedError, unpack

ORIENTATION_TAG = 0x0112
SHORT = 3
_MAX_ENTRIES = 512
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}


def read_orientation(exif: bytes) -> int:
    """EXIF orientation 1-8 of a TIFF-structured block; 1 where absent or broken."""
    if exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    try:
        return _find_orientation(exif)
    except RefusedError:
        return 1


def swaps_sides(orientation: int) -> bool:
    """Whether an image of this orientation is shown with width and height exchanged."""
    return orientation >= 5


def _find_orientation(exif: bytes) -> int:
    order = _BYTE_ORDERS.get(exif[:2])
    if order is None:
        return 1
    (offset,) = unpack(order + "I", exif, 4)
    (count,) = unpack(order + "H", exif, offset)
    for index in range(min(count, _MAX_ENTRIES)):
        tag, kind, length, value = unpack(order + "HHIH", exif, offset + 2 + 12 * index)
        if tag == ORIENTATION_TAG:
            return value if kind == SHORT and length == 1 and 1 <= value <= 8 else 1
    return 1
