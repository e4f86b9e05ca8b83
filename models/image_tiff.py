"""TIFF: the tags of the first page."""

from __future__ import annotations

from dataclasses import dataclass

from models.image_exif import swaps_sides
from models.image_layout import Layout
from models.image_reading import corrupt, truncated, unpack, unsupported

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES = 273, 274, 277, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
_TAGS = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, ORIENTATION, SAMPLES}
    | {STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES}
    | {PLANAR, SAMPLE_FORMAT}
)
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_BYTES = {"B": 1, "H": 2, "I": 4, "Q": 8}
_READ_BITS = {1: {1, 8, 10, 12, 14, 16}, 3: {32, 64}}  # by sample format: unsigned, float
# None, CCITT, LZW, JPEG, deflate, PackBits and the rarer ones that OpenCV's libtiff holds.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32766, 32771, 32773, 32809, 32946})
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
UNSPECIFIED, UNASSOCIATED = 0, 2
SEPARATE_PLANES = 2

Tags = dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Byte order and field widths of classic TIFF or BigTIFF."""

    order: str
    offset: str
    count: str
    first_page_at: int


def read_layout(data: bytes) -> Layout:
    """Layout of the first page. Raises RefusedError, truncated where strips lie past the end."""
    tags = _read_tags(data)
    width, height = _one(tags, WIDTH, 0), _one(tags, HEIGHT, 0)
    if not width or not height:
        raise corrupt(f"{width}x{height} pixels")
    _check_extent(data, tags)
    _check_samples(tags)
    bits = max(tags.get(BITS, (1,)))
    orientation = _one(tags, ORIENTATION, 1)
    return Layout(
        width=width,
        height=height,
        is_turned=1 <= orientation <= 8 and swaps_sides(orientation),
        tile_pixels=_one(tags, TILE_WIDTH, 0) * _one(tags, TILE_HEIGHT, 0),
        bytes_per_pixel=max(4, _one(tags, SAMPLES, 1) * bits // 8),
        is_premultiplied=bits <= 8 or _one(tags, EXTRA_SAMPLES, UNASSOCIATED) != UNASSOCIATED,
        ignores_alpha=_one(tags, EXTRA_SAMPLES, UNASSOCIATED) == UNSPECIFIED,
        # Otherwise it gives 1-bit palettes as grey.
        reads_as_colour=_one(tags, PHOTOMETRIC, BLACK_IS_ZERO) == PALETTE,
        is_inverted=bits > 8 and _one(tags, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO,
    )


def _read_tags(data: bytes) -> Tags:
    dialect = _read_dialect(data)
    (page,) = unpack(dialect.order + dialect.offset, data, dialect.first_page_at)
    (count,) = unpack(dialect.order + dialect.count, data, page)
    first, step = page + _BYTES[dialect.count], 4 + 2 * _BYTES[dialect.offset]
    if first + count * step + _BYTES[dialect.offset] > len(data):
        raise truncated("ends inside its first directory")
    tags: Tags = {}
    for at in range(first, first + count * step, step):
        (tag,) = unpack(dialect.order + "H", data, at)
        if tag in _TAGS:
            tags.setdefault(tag, _read_values(data, dialect, at))
    return tags


def _read_dialect(data: bytes) -> _Dialect:
    order = "<" if data[:2] == b"II" else ">"
    (version,) = unpack(order + "H", data, 2)
    return _Dialect(order, "Q", "Q", 8) if version == 43 else _Dialect(order, "I", "H", 4)


def _read_values(data: bytes, dialect: _Dialect, at: int) -> tuple[int, ...]:
    kind, count = unpack(dialect.order + "H" + dialect.offset, data, at + 2)
    letter = _TYPES.get(kind)
    if letter is None:
        raise corrupt(f"a tag of type {kind}")
    if not count:
        raise corrupt("a tag without a value")
    inline = 8 if dialect.offset == "Q" else 4
    value_at = at + 4 + inline
    if count * _BYTES[letter] > inline:
        (value_at,) = unpack(dialect.order + dialect.offset, data, value_at)
    if value_at + count * _BYTES[letter] > len(data):
        raise truncated("ends before the values of its tags")
    return unpack(f"{dialect.order}{count}{letter}", data, value_at)


def _one(tags: Tags, tag: int, default: int) -> int:
    values = tags.get(tag)
    return values[0] if values else default


def _check_extent(data: bytes, tags: Tags) -> None:
    """Refuse strips or tiles past the end."""
    for offsets, lengths in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
        pairs = zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
        if any(offset + length > len(data) for offset, length in pairs):
            raise truncated("strips past the end")


def _check_samples(tags: Tags) -> None:
    """Refuse what OpenCV can't read or, worse, reads as other pixels."""
    all_bits, form = tags.get(BITS, (1,)), _one(tags, SAMPLE_FORMAT, 1)
    photometric, samples = _one(tags, PHOTOMETRIC, BLACK_IS_ZERO), _one(tags, SAMPLES, 1)
    compression, bits = _one(tags, COMPRESSION, 1), all_bits[0]
    if len(set(all_bits)) != 1 or bits not in _READ_BITS.get(form, ()):
        raise unsupported(f"TIFF of {bits} bits per sample, sample format {form}")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"TIFF compression {compression}")
    if samples not in (1, 3, 4):  # OpenCV drops the alpha of grey with alpha
        raise unsupported(f"TIFF of {samples} samples per pixel")
    if bits > 8 and photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise unsupported(f"TIFF of {bits} bits, photometric {photometric}")
    if bits > 8 and samples > 1 and _one(tags, PLANAR, 1) == SEPARATE_PLANES:
        raise unsupported(f"TIFF of {bits} bits in separate planes")
