"""A model whose decoder really crashes or hangs in native code on marked files."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import udfs.decoding
from models.images import DecodeLimits, Preprocessed, preprocess_image
from models.isolation import IsolatedPreprocessor
from models.runtime import Caption

CRASH, HANG = b"crash the decoder", b"hang the decoder"
SIZE = 32


def decode_or_die(data: bytes, *, size: int, limits: DecodeLimits) -> Preprocessed:
    """Do as `preprocess_image`, except for the two marks."""
    if data.startswith(CRASH):
        ctypes.string_at(0)
    if data.startswith(HANG):
        ctypes.CDLL(None).pause()  # waits in native code, as an endless loop would
    return preprocess_image(data, size=size, limits=limits)


class MeanRuntime:
    """Says each image's mean colour."""

    image_size = SIZE

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        means: npt.NDArray[np.float32] = pixels.mean(axis=(1, 2)).round().astype(np.float32)
        return means

    def generate(self, features: npt.NDArray[np.float32]) -> list[Caption]:
        return [Caption(" ".join(f"{value:.0f}" for value in row), 0.5) for row in features]


@dataclass(frozen=True)
class FaultyModel:
    """Loads in the worker and puts the faulty decoder in place there."""

    name: str = "faulty"

    def __call__(self) -> MeanRuntime:
        setattr(udfs.decoding, "preprocess_image", decode_or_die)  # noqa: B010 - as a test patches
        isolated = IsolatedPreprocessor(function=decode_or_die)
        setattr(udfs.decoding, "isolated_preprocessor", lambda: isolated)  # noqa: B010
        return MeanRuntime()
