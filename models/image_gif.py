"""GIF: the first frame, alone and opaque on white.

OpenCV gets a GIF of that frame only. It drops the transparency of some animations, fails on odd
background colours, and would walk through frames that nobody asked for.
"""

from __future__ import annotations

import struct

from models.image_layout import Layout
from models.image_reading import corrupt, truncated, unpack

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
_HAS_TABLE, _INTERLACED, _TABLE_SIZE, _TRANSPARENT = 0x80, 0x40, 0x07, 0x01
_WHITE = b"\xff\xff\xff"


def read_layout(data: bytes) -> Layout:
    """Layout of a GIF. Raises RefusedError, truncated where blocks or the trailer are missing."""
    width, height, flags = unpack("<HHB", data, 6)
    if not width or not height:
        raise corrupt(f"{width}x{height} pixels")
    try:
        frame, transparent = _find_frame(data, 13 + _table_bytes(flags))
        end = _skip_sub_blocks(data, _data_start(data, frame))
        _walk_to_trailer(data, end)
    except IndexError:
        raise truncated("ends inside its blocks") from None
    return Layout(
        width,
        height,
        decodable=_single_frame(data, frame, end, transparent=transparent),
        bytes_per_pixel=5,  # OpenCV keeps the canvas beside the frame
    )


def _find_frame(data: bytes, offset: int) -> tuple[int, int | None]:
    """Offset of the first image descriptor, and the transparent colour's index."""
    transparent = None
    while data[offset] == _EXTENSION:
        if data[offset + 1] == _GRAPHIC_CONTROL and data[offset + 2] >= 4:
            transparent = data[offset + 6] if data[offset + 3] & _TRANSPARENT else None
        offset = _skip_sub_blocks(data, offset + 2)
    if data[offset] != _IMAGE:
        raise corrupt("no frame")
    return offset, transparent


def _walk_to_trailer(data: bytes, offset: int) -> None:
    """Pass the later frames, only to know that the file is whole; rubbish counts as its end."""
    while data[offset] in (_IMAGE, _EXTENSION):
        start = _data_start(data, offset) if data[offset] == _IMAGE else offset + 2
        offset = _skip_sub_blocks(data, start)


def _single_frame(data: bytes, frame: int, end: int, *, transparent: int | None) -> bytes:
    """A GIF of the frame between these offsets; what is transparent in it becomes white."""
    width, height = unpack("<HH", data, 6)
    *place, flags = unpack("<HHHHB", data, frame + 1)
    if place[0] + place[2] > width or place[1] + place[3] > height:
        raise corrupt("a frame outside its canvas")
    table = bytearray(_table_of(data, frame, flags))
    if transparent is not None and 3 * transparent < len(table):
        table[3 * transparent : 3 * transparent + 3] = _WHITE
    size = (len(table) // 3).bit_length() - 2
    screen = struct.pack("<HHBBB", width, height, _HAS_TABLE, 0, 0) + 2 * _WHITE
    descriptor = struct.pack("<BHHHHB", _IMAGE, *place, _HAS_TABLE | flags & _INTERLACED | size)
    pixels = data[_data_start(data, frame) - 1 : end]
    return b"GIF89a" + screen + descriptor + table + pixels + bytes([_TRAILER])


def _table_of(data: bytes, frame: int, flags: int) -> bytes:
    """The colours of the frame: its own, or else everybody's."""
    if flags & _HAS_TABLE:
        return data[frame + 10 : frame + 10 + _table_bytes(flags)]
    (common,) = unpack("B", data, 10)
    if not common & _HAS_TABLE:
        raise corrupt("no colour table")
    return data[13 : 13 + _table_bytes(common)]


def _data_start(data: bytes, frame: int) -> int:
    """Offset of the first sub-block of a frame, behind its table and the code size."""
    return frame + 11 + _table_bytes(data[frame + 9])


def _table_bytes(flags: int) -> int:
    return 3 * (2 << (flags & _TABLE_SIZE)) if flags & _HAS_TABLE else 0


def _skip_sub_blocks(data: bytes, offset: int) -> int:
    """The offset after a chain of sub-blocks. Raises IndexError where the data ends first."""
    while length := data[offset]:
        offset += 1 + length
    return offset + 1
