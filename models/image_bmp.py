"""BMP: the Windows and OS/2 headers."""

from __future__ import annotations

from models.image_layout import Layout
from models.image_reading import corrupt, unpack, unsupported

_OS2_HEADER_BYTES = 12
_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_PLAIN, _BIT_FIELDS = 0, 3
_KNOWN_MASKS = {
    16: ((0xF800, 0x07E0, 0x001F), (0x7C00, 0x03E0, 0x001F)),
    32: ((0xFF0000, 0x00FF00, 0x0000FF),),
}
_EMBEDDED = {4: "JPEG", 5: "PNG"}


def has_known_header(data: bytes) -> bool:
    """Whether one of the known headers follows the two letters, which alone prove little."""
    return len(data) >= 18 and unpack("<I", data, 14)[0] in _HEADER_BYTES


def read_layout(data: bytes) -> Layout:
    """Layout of a BMP. Raises RefusedError."""
    (header_bytes,) = unpack("<I", data, 14)
    if header_bytes == _OS2_HEADER_BYTES:
        width, height = unpack("<HH", data, 18)
    else:
        width, height = unpack("<ii", data, 18)
    if width <= 0 or height == 0:
        raise corrupt(f"{width}x{height} pixels")
    if header_bytes >= 40:
        (compression,) = unpack("<I", data, 30)
        if compression in _EMBEDDED:
            raise unsupported(f"{_EMBEDDED[compression]} inside BMP")
        if compression == _BIT_FIELDS:
            _check_masks(data)
        _check_palette(data, header_bytes)
    return Layout(
        width,
        abs(height),
        reads_as_colour=not _has_alpha_mask(data, header_bytes),
        unset_alpha_is_opaque=True,
    )


def is_cut_short(data: bytes) -> bool:
    """Whether the pixels run past the end of the data (asked only when decoding failed)."""
    if unpack("<I", data, 14)[0] < 40 or len(data) < 34:
        return len(data) < 26
    (pixels,) = unpack("<I", data, 10)
    width, height, _, depth, compression = unpack("<iiHHI", data, 18)
    stride = (width * depth + 31) // 32 * 4
    return pixels >= len(data) or (
        compression in (0, 3) and pixels + stride * abs(height) > len(data)
    )


def _check_palette(data: bytes, header_bytes: int) -> None:
    """Refuse pixels that begin inside the palette."""
    (pixels,), (depth,), (colours,) = (
        unpack(form, data, at) for form, at in (("<I", 10), ("<H", 28), ("<I", 46))
    )
    if depth <= 8 and pixels < 14 + header_bytes + 4 * min(colours or 1 << depth, 1 << depth):
        raise corrupt("pixels inside the palette")


def _check_masks(data: bytes) -> None:
    """Refuse channel orders that OpenCV would ignore, giving false colours."""
    masks = unpack("<III", data, 54)
    if masks not in _KNOWN_MASKS.get(unpack("<H", data, 28)[0], ()):
        raise unsupported("BMP with channel masks " + " ".join(f"{mask:x}" for mask in masks))


def _has_alpha_mask(data: bytes, header_bytes: int) -> bool:
    """Whether the header declares an alpha channel; without, the fourth byte is undefined."""
    return header_bytes >= 56 and len(data) >= 70 and unpack("<I", data, 66)[0] != 0
