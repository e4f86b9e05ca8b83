"""Telling an image that is not read (HEIC, SVG, PSD and others) from what is no image at all."""

from __future__ import annotations

from collections.abc import Iterable

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"8BPS", "PSD"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"\0\0\x02\0", "CUR"),
    (0, b"\x8aMNG", "MNG"),
    (0, b"\x8bJNG", "JNG"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"DDS ", "DDS"),
    (0, b"gimp xcf", "XCF"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (40, b" EMF", "EMF"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\x01\xda\x01", "SGI"),
    (0, b"\x01\xda\0", "SGI"),
    (0, b"FUJIFILMCCD-RAW", "Fuji raw"),
    (0, b"IIRO", "Olympus raw"),
    (0, b"IIU\0", "Panasonic raw"),
    (8, b"CR\x02", "Canon raw"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (0, b"/* XPM */", "XPM"),
    (0, b"\0\0\0\0\0\0\0\0\0\0\0\0KTX", "KTX"),
    (0, b"\xabKTX ", "KTX"),
)
_ISO_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"jxl ": "JPEG XL",
    b"jp2 ": "JPEG 2000",
    b"crx ": "Canon raw",
}
_PCX_VERSIONS = (0, 2, 3, 4, 5)
_TEXT_HEAD_BYTES = 4096


def name_unsupported_kind(data: bytes) -> str | None:
    """The name of an image format that is recognised but not read; None for anything else."""
    for offset, signature, name in _SIGNATURES:
        if data.startswith(signature, offset):
            return name
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12])
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3] in b" \t\r\n" and len(data) > 3:
        return "PNM"
    if data[:1] == b"\n" and len(data) > 128 and data[1] in _PCX_VERSIONS and data[2] == 1:
        return "PCX"
    return "SVG" if _is_svg(data[:_TEXT_HEAD_BYTES]) else None


def is_beginning_of_an_image(data: bytes, signatures: Iterable[bytes]) -> bool:
    """Whether all there is could be the first bytes of one of these signatures."""
    return any(signature.startswith(data) for signature in signatures)


def _is_svg(head: bytes) -> bool:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text
