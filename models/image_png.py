"""PNG: the chunks that make the picture; all others are left out before decoding."""

from __future__ import annotations

from models.image_exif import read_orientation, swaps_sides
from models.image_layout import Layout
from models.image_reading import corrupt, truncated, unpack

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY = 0
# Text and colour profiles may hold compressed bombs, and animation chunks make the decoder keep
# several canvases: none of them changes the pixels of the first picture.
_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_MAX_CHUNKS = 1_000_000


def read_layout(data: bytes) -> Layout:
    """Layout of a PNG. Raises RefusedError, truncated where the IEND chunk is missing."""
    if data[12:16] != b"IHDR":
        raise (corrupt if len(data) >= 16 else truncated)("no IHDR chunk")
    width, height, depth, colour = unpack(">IIBB", data, 16)
    if not width or not height:
        raise corrupt(f"{width}x{height} pixels")
    kept, exif, transparency = _walk_chunks(data)
    orientation = read_orientation(exif)
    return Layout(
        width=width,
        height=height,
        orientation=orientation,
        is_turned=swaps_sides(orientation),
        decodable=kept,
        bytes_per_pixel=8 if depth == 16 else 4,
        transparent_grey=_read_transparent_grey(transparency, depth) if colour == GREY else None,
    )


def _walk_chunks(data: bytes) -> tuple[bytes | None, bytes, bytes]:
    """The file without foreign chunks (None: it has none), its EXIF block and its tRNS chunk."""
    exif = transparency = b""
    pieces, kept_from, offset = [], 0, len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        length, _ = unpack(">II", data, offset)
        kind, end = data[offset + 4 : offset + 8], offset + 12 + length
        if end > len(data):
            raise truncated(f"ends inside its {kind!r} chunk")
        if kind == b"eXIf" and not exif:
            exif = data[offset + 8 : end - 4]
        if kind == b"tRNS":
            transparency = data[offset + 8 : end - 4]
        if kind not in _PICTURE_CHUNKS:
            pieces.append(data[kept_from:offset])
            kept_from = end
        if kind == b"IEND":
            pieces.append(data[kept_from:end])
            return (b"".join(pieces) if len(pieces) > 1 else None), exif, transparency
        offset = end
    raise corrupt(f"more than {_MAX_CHUNKS} chunks")


def _read_transparent_grey(transparency: bytes, depth: int) -> int | None:
    """The grey value that is transparent, in the decoder's scale (8 bits, or 16 of a 16-bit file).

    OpenCV drops it for grey images, though not for coloured ones.
    """
    if len(transparency) != 2 or depth not in (1, 2, 4, 8, 16):
        return None
    value = int.from_bytes(transparency, "big") & ((1 << depth) - 1)
    return value if depth == 16 else value * 255 // ((1 << depth) - 1)
