"""What a decoder must know about an image before it decodes: type, size, orientation.

The type is told by content, never by name. Each format's parser is bounds-checked pure Python, so
that a hostile header is refused before native code allocates anything for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from models import image_bmp, image_gif, image_jpeg, image_png, image_tiff, image_webp
from models.image_kinds import is_beginning_of_an_image, name_unsupported_kind
from models.image_layout import Layout
from models.image_reading import RefusedError
from models.reasons import Reason


class Format(NamedTuple):
    """One format that is read: its name in the table, its first bytes, its header parser."""

    name: str
    signatures: tuple[bytes, ...]
    read_layout: Callable[[bytes], Layout]
    is_cut_short: Callable[[bytes], bool] = lambda _: False


FORMATS: tuple[Format, ...] = (
    Format("jpeg", (b"\xff\xd8\xff",), image_jpeg.read_layout),
    Format("png", (image_png.SIGNATURE,), image_png.read_layout),
    Format("webp", (b"RIFF",), image_webp.read_layout),
    Format("gif", (b"GIF87a", b"GIF89a"), image_gif.read_layout),
    Format("tiff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), image_tiff.read_layout),
    Format("bmp", (b"BM",), image_bmp.read_layout, image_bmp.is_cut_short),
)


def tell_format(data: bytes) -> Format:
    """The format of these bytes.

    Raises RefusedError: unsupported_format for an image that is not read, truncated for the mere
    beginning of a signature, else not_an_image.
    """
    for form in FORMATS:
        if data.startswith(form.signatures) and _is_plausible(form, data):
            return form
    kind = name_unsupported_kind(data)
    if kind:
        raise RefusedError(Reason.UNSUPPORTED_FORMAT, kind)
    if is_beginning_of_an_image(data, [s for form in FORMATS for s in form.signatures]):
        raise RefusedError(Reason.TRUNCATED, f"only {len(data)} bytes of a signature")
    raise RefusedError(Reason.NOT_AN_IMAGE, f"begins with {data[:8]!r}")


def _is_plausible(form: Format, data: bytes) -> bool:
    """Whether a signature too short to be proof is backed by what follows it."""
    if form.name == "webp":
        return data[8:12] == b"WEBP"
    if form.name == "bmp":
        return image_bmp.has_known_header(data)
    if form.name == "tiff":
        return data[8:10] != b"CR"  # Canon raw: a TIFF whose first page is a thumbnail
    return True
