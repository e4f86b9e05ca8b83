"""Decoded samples of any depth and channels to one square of 8-bit RGB.

H, W: the decoded image; S: side of the square. Samples are OpenCV's: [H, W] grey, [H, W, 3] BGR or
[H, W, 4] BGRA, of dtype uint8, uint16, float32 or float64. Integer arithmetic wherever the input
is integer, so that every machine makes the same bytes.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.image_layout import Layout
from models.image_reading import RefusedError, unsupported
from models.reasons import Reason

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[Any]

_STRIP_PIXELS = 1 << 15  # so that a strip's wider sums stay in the processor's cache
_WIDER: dict[str, type[np.generic]] = {"uint8": np.uint16, "uint16": np.uint32}


def make_square(image: Samples, *, size: int, layout: Layout) -> Pixels:
    """Samples [H, W(, 3|4)] to uint8 [S, S, 3] RGB: on white, squashed, upright."""
    _check_samples(image)
    if layout.transparent_grey is not None and image.ndim == 2:
        image[image == layout.transparent_grey] = white_of(image)
    if layout.is_inverted:
        image = np.subtract(white_of(image), image, dtype=image.dtype)
    if image.ndim == 3 and image.shape[2] == 4:
        image = flatten_alpha(image, layout=layout)
    return turn_upright(squash(image, size=size), orientation=layout.orientation)


def white_of(image: Samples) -> int:
    """The value of full intensity in this depth."""
    return int(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1


def flatten_alpha(image: Samples, *, layout: Layout) -> Samples:
    """Composite [H, W, 4] on white to [H, W, 3] of the same dtype."""
    if layout.ignores_alpha or image[..., 3].min() == white_of(image):
        return image[..., :3]
    if layout.unset_alpha_is_opaque and not image[..., 3].any():
        return image[..., :3]
    blend = _add_white if layout.is_premultiplied else _blend_with_white
    flat = np.empty((*image.shape[:2], 3), image.dtype)
    rows = max(1, _STRIP_PIXELS // image.shape[1])
    for top in range(0, len(image), rows):
        strip = image[top : top + rows].astype(_WIDER.get(image.dtype.name, image.dtype))
        alpha = np.ascontiguousarray(strip[..., 3])
        for channel in range(3):  # one at a time: numpy is slow on an inner axis of three
            flat[top : top + rows, :, channel] = blend(strip[..., channel], alpha, white_of(image))
    return flat


def squash(image: Samples, *, size: int) -> Pixels:
    """Samples [H, W(, 3)] to uint8 [S, S, 3] RGB.

    Area averaging where a side shrinks, then exact bilinear where one grows: both were measured to
    give equal bytes with and without SIMD, unlike cubic.
    """
    height, width = image.shape[:2]
    smaller = (min(width, size), min(height, size))
    if smaller != (width, height):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    pixels: Samples = _to_rgb(_to_8_bits(image))
    if smaller != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(pixels, np.uint8)


def turn_upright(pixels: Pixels, *, orientation: int) -> Pixels:
    """Apply EXIF orientation 1-8 to [S, S, 3]; on the square, where it costs next to nothing."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _check_samples(image: Samples) -> None:
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype.name not in ("uint8", "uint16", "float32", "float64"):
        raise unsupported(f"samples of {image.dtype.name}")
    if channels not in (1, 3, 4):
        raise unsupported(f"{channels} channels")
    if image.dtype.kind == "f" and not (image.min() >= 0 and image.max() <= 1):  # NaN fails both
        raise RefusedError(Reason.OUT_OF_RANGE, f"values {image.min():.6g} to {image.max():.6g}")


def _blend_with_white(colour: Samples, alpha: Samples, white: int) -> Samples:
    """Straight alpha: colour times alpha plus white times the rest, rounded; [h, W] each."""
    blended: Samples = colour * alpha
    blended += (white - alpha) * white
    if white > 1:
        # Division by 2**bits - 1, rounded to nearest, by shifts: exact and far quicker.
        bits = white.bit_length()
        blended += 1 << (bits - 1)
        blended += blended >> bits
        blended >>= bits
    return blended


def _add_white(colour: Samples, alpha: Samples, white: int) -> Samples:
    """Premultiplied alpha: colour plus white times the rest; [h, W] each."""
    summed: Samples = np.minimum(colour + (white - alpha), white)
    return summed


def _to_8_bits(image: Samples) -> Pixels:
    if image.dtype == np.uint16:
        image = (image.astype(np.uint32) + 128) // 257
    elif image.dtype.kind == "f":
        image = np.rint(image * 255)
    return image.astype(np.uint8, copy=False)


def _to_rgb(image: Pixels) -> Pixels:
    code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)
