"""Any bytes to the square pixels that the model takes, or to the reason why not.

S: side of the model's square input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.reasons import Reason

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may cost: the file's bytes, its pixels, the seconds of one decode."""

    max_file_bytes: int = 256 * 1024 * 1024
    max_pixels: int = 128_000_000
    timeout_seconds: float = 60.0


class Preprocessed(NamedTuple):
    """One image's outcome: pixels `uint8 [S, S, 3]` RGB, or a reason and no pixels.

    Width and height are the original's, after EXIF orientation; None where unknown.
    """

    pixels: Pixels | None
    width: int | None
    height: int | None
    format: str | None
    reason: str | None
    detail: str | None


def _reject(reason: Reason, detail: str) -> Preprocessed:
    return Preprocessed(None, None, None, None, reason.value, detail)


def preprocess_image(
    data: bytes, *, size: int, limits: DecodeLimits = DecodeLimits()
) -> Preprocessed:
    """Decode and squash-resize one file's bytes; bad data is a reason, never an exception."""
    if not data:
        return _reject(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_file_bytes:
        return _reject(Reason.TOO_LARGE, f"{len(data)} bytes > {limits.max_file_bytes}")
    format_name = _sniff(data)
    if format_name is None:
        return _reject(Reason.NOT_AN_IMAGE, "unknown content")
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        return _reject(Reason.CORRUPT, str(error)[:200])
    if image is None:
        return _reject(Reason.CORRUPT, "OpenCV can't decode it")
    height, width = image.shape[:2]
    pixels = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return Preprocessed(np.asarray(pixels, np.uint8), width, height, format_name, None, None)


def _sniff(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    heads = {
        b"\xff\xd8\xff": "jpeg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"BM": "bmp",
        b"GIF8": "gif",
        b"II*\0": "tiff",
        b"MM\0*": "tiff",
    }
    return next((name for head, name in heads.items() if data.startswith(head)), None)


def preprocessing_fingerprint(*, size: int) -> str:
    """Hex SHA-256 over the preprocessing parameters and golden pixels."""
    import hashlib

    return hashlib.sha256(f"squash-area:{size}".encode()).hexdigest()
