"""Every kind of file that must decode, made of the one drawing, with the square it must give."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.images.drawing import (
    HEIGHT,
    WIDTH,
    draw,
    draw_alpha,
    draw_grey,
    on_white,
    square,
)
from tests.images.encoding import (
    bmp,
    bmp_os2,
    jpeg_without_segments,
    pack_bits,
    pillow,
    png,
    png_chunk,
    tiff,
)

SIZE = (WIDTH, HEIGHT)


class GoodFile(NamedTuple):
    """A file, the format it is, the square it shows, and whether the format is lossy."""

    name: str
    data: bytes
    format: str
    expected: npt.NDArray[np.float64]
    is_lossy: bool = False


def good_files() -> list[GoodFile]:
    """All of them; names are unique."""
    makers = (_jpegs, _pngs, _webps, _gifs, _bmps, _tiffs, _deep_tiffs)
    return [file for maker in makers for file in maker()]


def _jpegs() -> Iterator[GoodFile]:
    rgb, colour, grey = draw(), square(draw()), square(draw_grey())
    variants: dict[str, dict[str, Any]] = {
        "baseline": {"quality": 95},
        "baseline-444": {"quality": 95, "subsampling": 0},
        "baseline-422": {"quality": 95, "subsampling": 1},
        "progressive": {"quality": 95, "progressive": True},
        "restarts": {"quality": 95, "restart_marker_blocks": 2},
        "optimised": {"quality": 95, "optimize": True},
    }
    for name, options in variants.items():
        yield GoodFile(f"jpeg-{name}", pillow(rgb, "JPEG", **options), "jpeg", colour, True)
    yield GoodFile("jpeg-grey", pillow(draw_grey(), "JPEG", quality=95), "jpeg", grey, True)
    cmyk = pillow(rgb, "JPEG", "CMYK", quality=95, subsampling=0)
    yield GoodFile("jpeg-cmyk", cmyk, "jpeg", colour, True)
    plain_cmyk = jpeg_without_segments(cmyk, 0xEE)
    yield GoodFile("jpeg-cmyk-without-adobe-segment", plain_cmyk, "jpeg", colour, True)
    yield GoodFile("jpeg-ycck", _ycck(rgb), "jpeg", colour, True)
    data = pillow(rgb, "JPEG", quality=95, keep_rgb=True)
    yield GoodFile("jpeg-stored-as-rgb", data, "jpeg", colour, True)
    mpo = pillow(rgb, "MPO", quality=95, save_all=True, append_images=[Image.fromarray(255 - rgb)])
    yield GoodFile("jpeg-mpo", mpo, "jpeg", colour, True)
    yield GoodFile(
        "jpeg-trailing", pillow(rgb, "JPEG", quality=95) + b"x" * 99, "jpeg", colour, True
    )


def _ycck(rgb: npt.NDArray[np.uint8]) -> bytes:
    """A JPEG of the kind that Photoshop writes: CMYK inverted, its colours turned into YCbCr."""
    cmyk = np.asarray(Image.fromarray(rgb).convert("CMYK"))
    colours = Image.fromarray(np.ascontiguousarray(cmyk[..., :3])).convert("YCbCr")
    stored = np.dstack([np.asarray(colours), 255 - cmyk[..., 3]])
    picture = Image.frombytes("CMYK", SIZE, (255 - stored).tobytes())  # Pillow inverts once more
    data = bytearray(pillow(picture, "JPEG", quality=95, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2  # the transform that means YCCK
    return bytes(data)


def _pngs() -> Iterator[GoodFile]:
    rgb, alpha, grey = draw(), draw_alpha(), draw_grey()
    colour, blended = square(rgb), square(on_white(rgb, alpha))
    rgba = np.dstack([rgb, alpha])
    for bits in (1, 2, 4, 8, 16):
        levels = (1 << bits) - 1
        samples = np.rint(grey / 255 * levels).astype(np.uint16)
        shown = square(samples / levels * 255)
        for interlaced in (False, True):
            name = f"png-grey{bits}" + ("-interlaced" if interlaced else "")
            data = png(samples, bits=bits, colour=0, interlaced=interlaced)
            yield GoodFile(name, data, "png", shown)
        hidden = int(samples[0, 0])
        paper = np.where(samples == hidden, levels, samples)
        marked = png_chunk(b"tRNS", hidden.to_bytes(2, "big"))
        data = png(samples, bits=bits, colour=0, extra=marked)
        yield GoodFile(f"png-grey{bits}-trns", data, "png", square(paper / levels * 255))
    deep, deep_alpha = rgb.astype(np.uint16) * 257, rgba.astype(np.uint16) * 257
    red = np.where((rgb == (255, 0, 0)).all(axis=-1, keepdims=True), 255, rgb)
    for bits, samples in ((8, rgb.astype(np.uint16)), (16, deep)):
        top = (1 << bits) - 1
        marked = png_chunk(b"tRNS", top.to_bytes(2, "big") + bytes(4))
        data = png(samples, bits=bits, colour=2, extra=marked)
        yield GoodFile(f"png-rgb{bits}", png(samples, bits=bits, colour=2), "png", colour)
        yield GoodFile(f"png-rgb{bits}-trns", data, "png", square(red))
    yield GoodFile("png-rgba8", png(rgba.astype(np.uint16), bits=8, colour=6), "png", blended)
    yield GoodFile("png-rgba16", png(deep_alpha, bits=16, colour=6), "png", blended)
    grey_alpha = np.dstack([grey, alpha]).astype(np.uint16)
    grey_blended = square(on_white(np.dstack([grey] * 3), alpha))
    yield GoodFile("png-la8", png(grey_alpha, bits=8, colour=4), "png", grey_blended)
    yield GoodFile("png-la16", png(grey_alpha * 257, bits=16, colour=4), "png", grey_blended)
    yield from _palette_pngs()


def _palette_pngs() -> Iterator[GoodFile]:
    picture = Image.fromarray(draw()).quantize(16)
    colours = np.asarray(picture.convert("RGB"))
    yield GoodFile("png-palette", pillow(picture, "PNG"), "png", square(colours))
    steps = bytes(range(0, 256, 17))
    alpha = np.frombuffer(steps, np.uint8)[np.asarray(picture)]
    data = pillow(picture, "PNG", transparency=steps)
    yield GoodFile("png-palette-trns", data, "png", square(on_white(colours, alpha)))
    later = [Image.new("RGB", SIZE, "blue")]
    animated = pillow(draw(), "PNG", save_all=True, append_images=later)
    yield GoodFile("png-animated", animated, "png", square(draw()))


def _webps() -> Iterator[GoodFile]:
    rgb, rgba = draw(), np.dstack([draw(), draw_alpha()])
    colour, blended = square(rgb), square(on_white(draw(), draw_alpha()))
    yield GoodFile("webp-lossy", pillow(rgb, "WEBP", quality=95), "webp", colour, True)
    yield GoodFile("webp-lossless", pillow(rgb, "WEBP", lossless=True), "webp", colour)
    data = pillow(rgba, "WEBP", lossless=True, exact=True)
    yield GoodFile("webp-alpha", data, "webp", blended)
    later = [Image.new("RGB", SIZE, "blue")]
    data = pillow(rgb, "WEBP", lossless=True, save_all=True, append_images=later)
    yield GoodFile("webp-animated", data, "webp", colour)
    data = pillow(rgba, "WEBP", lossless=True, exact=True, save_all=True, append_images=later)
    yield GoodFile("webp-animated-alpha", data, "webp", blended)


def _gifs() -> Iterator[GoodFile]:
    picture = Image.fromarray(draw()).quantize(64)
    colours, indices = np.asarray(picture.convert("RGB")), np.asarray(picture)
    shown = square(colours)
    yield GoodFile("gif", pillow(picture, "GIF", interlace=False), "gif", shown)
    yield GoodFile("gif-interlaced", pillow(picture, "GIF", interlace=True), "gif", shown)
    later = [Image.new("RGB", SIZE, "blue")]
    data = pillow(picture, "GIF", save_all=True, append_images=later)
    yield GoodFile("gif-animated", data, "gif", shown)
    hidden = int(indices[0, 0])
    paper = np.where((indices == hidden)[..., None], 255, colours)
    data = pillow(picture, "GIF", transparency=hidden)
    yield GoodFile("gif-transparent", data, "gif", square(paper))

    later = [picture.rotate(180)]
    options: dict[str, Any] = {"transparency": hidden, "background": hidden, "disposal": 2}
    data = pillow(picture, "GIF", save_all=True, append_images=later, **options)
    yield GoodFile("gif-animated-transparent", data, "gif", square(paper))
    yield GoodFile("gif-small-frame", *_small_frame())


def _small_frame() -> tuple[bytes, str, npt.NDArray[np.float64]]:
    """A GIF whose only frame covers the middle of its canvas; the rest is paper."""
    picture = Image.fromarray(draw()[12:36, 16:48]).quantize(32)
    data = bytearray(pillow(picture, "GIF"))
    data[6:10] = struct.pack("<HH", WIDTH, HEIGHT)
    frame = data.index(struct.pack("<BHHHH", 0x2C, 0, 0, 32, 24))
    data[frame + 1 : frame + 5] = struct.pack("<HH", 16, 12)
    shown = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    shown[12:36, 16:48] = np.asarray(picture.convert("RGB"))
    return bytes(data), "gif", square(shown)


def _bmps() -> Iterator[GoodFile]:
    rgb, grey, alpha = draw(), draw_grey(), draw_alpha()
    colour, size = square(rgb), SIZE
    bgr = rgb[::-1, :, ::-1]  # bottom-up rows
    unset = np.dstack([bgr, np.zeros((HEIGHT, WIDTH), np.uint8)]).tobytes()
    blended = np.dstack([bgr, alpha[::-1]]).tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF)
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    run_length = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in grey[::-1])
    files = {
        "24": bmp(bgr.tobytes(), size=size, bits=24),
        "top-down": bmp(bgr[::-1].tobytes(), size=(WIDTH, -HEIGHT), bits=24),
        "os2": bmp_os2(bgr.tobytes(), size=size),
        "os2-v2": bmp(bgr.tobytes(), size=size, bits=24, header_bytes=64),
        "32-unset-alpha": bmp(unset, size=size, bits=32),
        "32-masks": bmp(unset, size=size, bits=32, compression=3, header_bytes=52, masks=masks),
        "32-v4-unset-alpha": bmp(
            unset, size=size, bits=32, compression=3, header_bytes=108, masks=(*masks, 0xFF000000)
        ),
    }
    for name, data in files.items():
        yield GoodFile(f"bmp-{name}", data, "bmp", colour)
    data = bmp(
        blended, size=size, bits=32, compression=3, header_bytes=108, masks=(*masks, 0xFF000000)
    )
    yield GoodFile("bmp-32-v4-alpha", data, "bmp", square(on_white(rgb, alpha)))
    data = bmp(grey[::-1].tobytes(), size=size, bits=8, palette=palette)
    yield GoodFile("bmp-8", data, "bmp", square(grey))
    data = bmp(run_length + b"\0\1", size=size, bits=8, compression=1, palette=palette)
    yield GoodFile("bmp-8-rle", data, "bmp", square(grey))
    black_and_white = Image.fromarray(grey > 128)
    shown = square(np.asarray(black_and_white) * 255)
    yield GoodFile("bmp-1", pillow(black_and_white, "BMP"), "bmp", shown)


def _tiffs() -> Iterator[GoodFile]:
    rgb, grey, alpha = draw(), draw_grey(), draw_alpha()
    colour, picture = square(rgb), Image.fromarray(rgb)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        data = pillow(rgb, "TIFF", compression=compression)
        yield GoodFile(f"tiff-{compression}", data, "tiff", colour)
    data = pillow(rgb, "TIFF", compression="jpeg", quality=95)
    yield GoodFile("tiff-jpeg", data, "tiff", colour, True)
    yield GoodFile("tiff-big", pillow(rgb, "TIFF", big_tiff=True), "tiff", colour)
    data = pillow(rgb, "TIFF", save_all=True, append_images=[Image.new("RGB", SIZE, "blue")])
    yield GoodFile("tiff-pages", data, "tiff", colour)
    yield GoodFile("tiff-cmyk", pillow(rgb, "TIFF", "CMYK"), "tiff", colour)
    palette = picture.quantize(32)
    shown = square(np.asarray(palette.convert("RGB")))
    yield GoodFile("tiff-palette", pillow(palette, "TIFF"), "tiff", shown)
    black_and_white = Image.fromarray(grey > 128)
    shown = square(np.asarray(black_and_white) * 255)
    for compression in ("raw", "group3", "group4"):
        data = pillow(black_and_white, "TIFF", compression=compression)
        yield GoodFile(f"tiff-1-{compression}", data, "tiff", shown)
    dark, light = (10, 60, 200), (250, 180, 30)
    colormap = [channel * 257 for pair in zip(dark, light, strict=True) for channel in pair]
    raw = pack_bits((grey > 128).astype(np.uint8), 1)
    data = tiff(raw, size=SIZE, bits=1, photometric=3, extra={320: colormap})
    shown = square(np.where((grey > 128)[..., None], light, dark))
    yield GoodFile("tiff-1-palette", data, "tiff", shown)
    rgba = np.dstack([rgb, alpha])
    blended = square(on_white(rgb, alpha))
    yield GoodFile("tiff-alpha", pillow(rgba, "TIFF"), "tiff", blended, True)
    data = tiff(rgba.tobytes(), size=SIZE, bits=8, samples=4, photometric=2, extra={338: 0})
    yield GoodFile("tiff-fourth-sample-unspecified", data, "tiff", colour)


def _deep_tiffs() -> Iterator[GoodFile]:
    rgb, grey, alpha = draw(), draw_grey(), draw_alpha()
    deep = grey.astype(np.uint16) * 257
    for name, samples, photometric in (("black", deep, 1), ("white", 65535 - deep, 0)):
        raw = pack_bits(samples, 16, order="<")
        data = tiff(raw, size=SIZE, bits=16, photometric=photometric)
        yield GoodFile(f"tiff-grey16-{name}-is-zero", data, "tiff", square(grey))
    rgba = np.dstack([rgb, alpha]).astype(np.uint16) * 257
    raw = pack_bits(rgba, 16, order="<")
    data = tiff(raw, size=SIZE, bits=16, samples=4, photometric=2, extra={338: 2})
    yield GoodFile("tiff-rgba16", data, "tiff", square(on_white(rgb, alpha)))
    shares = rgb[..., ::-1] / 255
    for name, picture in (("float32", shares.astype(np.float32)), ("float64", shares)):
        data = cv2.imencode(".tiff", picture)[1].tobytes()
        yield GoodFile(f"tiff-{name}", data, "tiff", square(rgb))
