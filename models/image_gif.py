"""GIF: the canvas and the first frame's place on it."""

from __future__ import annotations

from models.image_layout import Layout
from models.image_reading import RefusedError, corrupt, unpack
from models.reasons import Reason

_EXTENSION, _IMAGE = 0x21, 0x2C
_MAX_BLOCKS = 2_000_000
_BYTES_PER_PIXEL = 5  # the canvas beside the frame


def read_layout(data: bytes) -> Layout:
    """Layout of a GIF. Raises RefusedError, also where the first frame leaves the canvas."""
    width, height, flags = unpack("<HHB", data, 6)
    if not width or not height:
        raise corrupt(f"{width}x{height} pixels")
    offset = _skip_extensions(data, 13 + _table_bytes(flags))
    if unpack("B", data, offset)[0] != _IMAGE:
        raise corrupt("no frame")
    left, top, frame_width, frame_height = unpack("<HHHH", data, offset + 1)
    if left + frame_width > width or top + frame_height > height:
        raise corrupt("a frame outside its canvas")
    return Layout(width, height, bytes_per_pixel=_BYTES_PER_PIXEL)


def is_cut_short(data: bytes) -> bool:
    """Whether the blocks run past the end of the data (asked only when decoding failed)."""
    try:
        _walk_frames(data)
    except RefusedError as refusal:
        return refusal.reason == Reason.TRUNCATED
    return False


def _walk_frames(data: bytes) -> None:
    flags = unpack("B", data, 10)[0]
    offset = _skip_extensions(data, 13 + _table_bytes(flags))
    while unpack("B", data, offset)[0] == _IMAGE:
        (flags,) = unpack("B", data, offset + 9)
        offset = _skip_sub_blocks(data, offset + 11 + _table_bytes(flags))
        offset = _skip_extensions(data, offset)


def _table_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _skip_extensions(data: bytes, offset: int) -> int:
    for _ in range(_MAX_BLOCKS):
        (kind,) = unpack("B", data, offset)
        if kind != _EXTENSION:
            return offset
        offset = _skip_sub_blocks(data, offset + 2)
    raise corrupt(f"more than {_MAX_BLOCKS} blocks")


def _skip_sub_blocks(data: bytes, offset: int) -> int:
    for _ in range(_MAX_BLOCKS):
        (length,) = unpack("B", data, offset)
        offset += 1 + length
        if not length:
            return offset
    raise corrupt(f"more than {_MAX_BLOCKS} blocks")
