"""Changes to a photograph that leave its captions true: crop, colour; never a mirrored "left".

Shapes: B images · S image side · N grid cells · C channels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SMALLEST_SIDE = 0.8
"""Least share of each side that a crop keeps; less loses what the caption talks about."""
COLOUR_CHANGE = 0.2
"""Most that brightness and each channel are scaled by, either way."""


def augment_batch(pixels: Pixels, *, seeds: npt.NDArray[np.int64]) -> Pixels:
    """Cropped and tinted copies uint8 [B, S, S, 3] of images; the same seed, the same copy."""
    pairs = zip(pixels, seeds, strict=True)
    return np.stack([augment_image(image, seed=int(seed)) for image, seed in pairs])


def augment_image(image: Pixels, *, seed: int) -> Pixels:
    """One cropped and tinted copy uint8 [S, S, 3]."""
    random = np.random.default_rng(seed)
    return _tint(_crop(image, random), random)


def drop_channels(
    features: npt.NDArray[np.float16], *, share: float, seed: tuple[int, ...]
) -> npt.NDArray[np.float16]:
    """Features [B, N, C] with a share of each image's channels set to 0 and the rest scaled up.

    Done to the inputs, it regularises self-critical training and still lets captions be drawn
    from the very network that learns from them, which dropout inside it would not.
    """
    images, _, channels = features.shape
    kept = np.random.default_rng(seed).random((images, 1, channels)) >= share
    return features * (kept / (1.0 - share)).astype(np.float16)


def _crop(image: Pixels, random: np.random.Generator) -> Pixels:
    side = image.shape[0]
    height, width = (side * random.uniform(SMALLEST_SIDE, 1.0, 2)).astype(int)
    top, left = random.integers(0, side - height + 1), random.integers(0, side - width + 1)
    part = image[top : top + height, left : left + width]
    return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _tint(image: Pixels, random: np.random.Generator) -> Pixels:
    brightness = random.uniform(1 - COLOUR_CHANGE, 1 + COLOUR_CHANGE)
    channels = random.uniform(1 - COLOUR_CHANGE / 2, 1 + COLOUR_CHANGE / 2, 3)
    levels = np.arange(256)[:, None] * brightness * channels
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)
