"""Any bytes to the square pixels that the model takes, or to the reason why not.

Training, the Spark job and any server call this one function; its fingerprint travels with the
model. The order is the safety: bytes are counted, the type is told by content, the header is parsed
and held against the limits, and only then does native code decode.

S: side of the model's square input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2

from conf.errors import EnvironmentFault
from models.image_decoding import decode, is_out_of_memory
from models.image_fingerprint import hash_preprocessing
from models.image_header import Format, tell_format
from models.image_layout import Layout
from models.image_pixels import Pixels, make_square
from models.image_reading import RefusedError
from models.reasons import Reason


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may cost.

    Each thread that decodes adds at most 8 bytes per pixel of max_pixels (OpenCV holds the samples
    twice) plus twice max_file_bytes: with these defaults about 1.5 GiB, at the very worst. A file
    that the JVM reads is held twice more, in its row and in Arrow.

    Attributes:
        max_file_bytes: of the file.
        max_pixels: of the image; deep samples (16 bits, floating point) allow fewer.
        timeout_seconds: of one decode.
    """

    max_file_bytes: int = 256 * 1024 * 1024
    max_pixels: int = 128_000_000
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if min(self.max_file_bytes, self.max_pixels, self.timeout_seconds) <= 0:
            raise ValueError(f"limits must be positive: {self}")

    @property
    def max_sample_bytes(self) -> int:
        """Bytes of decoded samples: four for each pixel."""
        return 4 * self.max_pixels


class Preprocessed(NamedTuple):
    """One image's outcome: pixels uint8 [S, S, 3] RGB, or a reason and no pixels.

    Width and height are the original's after EXIF orientation; None where unknown.
    """

    pixels: Pixels | None
    width: int | None
    height: int | None
    format: str | None
    reason: str | None
    detail: str | None


DEFAULT_LIMITS = DecodeLimits()
# A progressive JPEG walks over all its pixels once per scan; real ones have about ten.
_MAX_SCANS = 64


def preprocess_image(
    data: bytes, *, size: int, limits: DecodeLimits = DEFAULT_LIMITS
) -> Preprocessed:
    """Decode one file's bytes and squash them to [size, size, 3]; bad data never raises."""
    form: Format | None = None
    layout: Layout | None = None
    try:
        _check_bytes(data, limits)
        form = tell_format(data)
        layout = form.read_layout(data)
        _check_pixels(layout, limits)
        pixels = make_square(
            decode(data, form=form, layout=layout, size=size), size=size, layout=layout
        )
    except RefusedError as refusal:
        return _rejected(refusal.reason, refusal.detail, form, layout)
    except (MemoryError, cv2.error) as failure:
        if not is_out_of_memory(failure):
            raise
        return _rejected(Reason.WORKER_KILLED, "not enough memory to decode", form, layout)
    return Preprocessed(pixels, *layout.shown_size, form.name, None, None)


def _rejected(
    reason: Reason, detail: str, form: Format | None, layout: Layout | None
) -> Preprocessed:
    width, height = layout.shown_size if layout else (None, None)
    return Preprocessed(None, width, height, form.name if form else None, reason.value, detail)


def _check_bytes(data: bytes, limits: DecodeLimits) -> None:
    if not data:
        raise RefusedError(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_file_bytes:
        raise RefusedError(
            Reason.TOO_LARGE, f"{len(data)} bytes, at most {limits.max_file_bytes} are read"
        )


def _check_pixels(layout: Layout, limits: DecodeLimits) -> None:
    pixels = max(layout.width * layout.height, layout.tile_pixels)
    if pixels > limits.max_pixels:
        raise RefusedError(
            Reason.TOO_LARGE,
            f"{layout.width}x{layout.height} pixels, at most {limits.max_pixels} are decoded",
        )
    if pixels * layout.bytes_per_pixel > limits.max_sample_bytes:
        raise RefusedError(
            Reason.TOO_LARGE,
            f"{layout.width}x{layout.height} pixels of {layout.bytes_per_pixel} bytes,"
            f" at most {limits.max_sample_bytes} bytes are decoded",
        )
    if layout.scans > _MAX_SCANS:
        raise RefusedError(
            Reason.TOO_LARGE, f"{layout.scans} scans, at most {_MAX_SCANS} are decoded"
        )


@cache
def preprocessing_fingerprint(*, size: int) -> str:
    """Hex SHA-256 over the preprocessing's parameters and golden pixels; equal on every machine.

    Raises EnvironmentFault where a golden image doesn't decode.
    """

    def pixels_of(image: bytes) -> Pixels:
        outcome = preprocess_image(image, size=size)
        if outcome.pixels is None:
            raise EnvironmentFault(
                f"OpenCV can't decode a sound PNG: {outcome.detail}.",
                remedy="Install the versions of constraints.txt.",
            )
        return outcome.pixels

    return hash_preprocessing(pixels_of, size=size)
