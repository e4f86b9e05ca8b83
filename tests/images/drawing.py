"""One small drawing, and its squares worked out without the code under test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Differences = npt.NDArray[np.float64]

WIDTH, HEIGHT, SIDE = 64, 48, 16  # whole blocks of 4x3 pixels make one pixel of the square


def draw() -> Pixels:
    """uint8 [48, 64, 3] RGB: smooth in both directions, with no symmetry and a pure red patch."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    drawing = np.stack([2 * y + x, 250 - 2 * x - y, 3 * y + 20], axis=-1).astype(np.uint8)
    drawing[6:18, 8:24] = (255, 0, 0)
    return drawing


def draw_grey() -> Pixels:
    """uint8 [48, 64]: the same shapes without colour."""
    grey: Pixels = draw()[..., 1].copy()
    return grey


def draw_alpha() -> Pixels:
    """uint8 [48, 64]: from transparent at the left to opaque at the right."""
    return np.broadcast_to(np.arange(WIDTH) * 255 // (WIDTH - 1), (HEIGHT, WIDTH)).astype(np.uint8)


def on_white(colours: Pixels, alpha: Pixels) -> npt.NDArray[np.float64]:
    """Colours [H, W, 3] with alpha [H, W] seen on white paper."""
    share = alpha[..., None] / 255
    blended: npt.NDArray[np.float64] = colours * share + 255 * (1 - share)
    return blended


def square(image: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """[H, W(, 3)] to float [16, 16, 3]: the mean of each block."""
    colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    height, width = colours.shape[0] // SIDE, colours.shape[1] // SIDE
    blocks = colours.astype(np.float64).reshape(SIDE, height, SIDE, width, 3)
    means: npt.NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return means


def differences(pixels: Pixels | None, expected: npt.NDArray[np.float64]) -> Differences:
    """Each value's distance between two squares."""
    assert pixels is not None
    distances: Differences = np.abs(pixels - expected)
    return distances
