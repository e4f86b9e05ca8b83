"""JPEG: the markers up to the first scan, and the end that a whole file has."""

from __future__ import annotations

from dataclasses import dataclass

from models.image_exif import read_orientation, swaps_sides
from models.image_layout import Layout
from models.image_reading import corrupt, truncated, unpack, unsupported

SOI, EOI, SOS, APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = {0xC0, 0xC1, 0xC2}
_ARITHMETIC_FRAMES = {0xC9, 0xCA}
_PROGRESSIVE_FRAMES = {0xC2, 0xCA}
_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01, SOI}
_MAX_SEGMENTS = 4096
# At the end marker libjpeg paints what is missing grey and calls it good. An all-ones code word is
# never valid, so a decoder that runs short of data meets these, then the buffer's end, and fails.
_PADDING = b"\xff\x00" * 16


@dataclass(slots=True)
class _Frame:
    """What the segments before the first scan told."""

    kind: int = 0
    width: int = 0
    height: int = 0
    components: int = 0
    orientation: int = 0


def read_layout(data: bytes) -> Layout:
    """Layout of a JPEG. Raises RefusedError, truncated where no end-of-image marker follows."""
    frame, scan = _walk_to_scan(data)
    if not frame.kind:
        raise corrupt("a scan before its frame header")
    if not frame.width or not frame.height:
        raise corrupt(f"{frame.width}x{frame.height} pixels")
    orientation = frame.orientation or 1
    return Layout(
        width=frame.width,
        height=frame.height,
        orientation=orientation,
        is_turned=swaps_sides(orientation),
        reads_as_colour=True,
        decodable=_without_false_end(data, frame, scan),
        scans=_count_scans(data, frame, scan),
    )


def _walk_to_scan(data: bytes) -> tuple[_Frame, int]:
    """The frame's facts and the offset of the first SOS marker."""
    frame, offset = _Frame(), 2
    for _ in range(_MAX_SEGMENTS):
        offset = data.find(b"\xff", offset)
        if offset < 0:
            raise truncated("ends before its first scan")
        (marker,) = unpack("B", data, offset + 1)
        if marker == 0xFF:
            offset += 1
        elif marker == 0 or marker in _STANDALONE:
            offset += 2
        elif marker == EOI:
            raise truncated("ends before its first scan")
        elif marker == SOS:
            return frame, offset
        else:
            offset = _read_segment(data, offset, marker, frame)
    raise corrupt(f"more than {_MAX_SEGMENTS} segments before the first scan")


def _read_segment(data: bytes, offset: int, marker: int, frame: _Frame) -> int:
    """Note what the segment tells; the offset after it."""
    (length,) = unpack(">H", data, offset + 2)
    if length < 2:
        raise corrupt(f"a segment of length {length}")
    if marker in _FRAMES:
        _read_frame(data, offset, marker, frame)
    elif marker == APP1 and not frame.orientation and data[offset + 4 : offset + 8] == b"Exif":
        frame.orientation = read_orientation(data[offset + 4 : offset + 2 + length])
    return offset + 2 + length


def _read_frame(data: bytes, offset: int, marker: int, frame: _Frame) -> None:
    precision, height, width, components = unpack(">BHHB", data, offset + 4)
    if marker not in _HUFFMAN_FRAMES | _ARITHMETIC_FRAMES:
        raise unsupported(f"JPEG process SOF{marker - 0xC0}")
    if precision != 8:
        raise unsupported(f"JPEG of {precision} bits per sample")
    if frame.kind:
        raise corrupt("two frame headers")
    frame.kind, frame.width, frame.height, frame.components = marker, width, height, components


def _without_false_end(data: bytes, frame: _Frame, scan: int) -> bytes | None:
    """The bytes with padding in place of the end marker, where one scan holds the whole image."""
    end = data.rfind(b"\xff\xd9", scan)  # backwards: it is nearly always at the end
    if end < 0:
        raise truncated("no end-of-image marker")
    (components,) = unpack("B", data, scan + 4)
    if frame.kind in _PROGRESSIVE_FRAMES | _ARITHMETIC_FRAMES or components != frame.components:
        return None
    return data[:end] + _PADDING


def _count_scans(data: bytes, frame: _Frame, scan: int) -> int:
    """How often decoding walks over all pixels: each scan of a progressive file does."""
    return data.count(b"\xff\xda", scan) if frame.kind in _PROGRESSIVE_FRAMES else 1
