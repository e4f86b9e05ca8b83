"""A hash that changes whenever the pixels handed to the model would.

Parameters alone would miss a library that decodes or resizes differently, so small golden images,
drawn with integer arithmetic and written by this module, are preprocessed and their pixels hashed.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

# Raise when the preprocessing changes in a way that the golden images might not show.
ALGORITHM = {
    "name": "squash",
    "version": 1,
    "shrink": "area",
    "enlarge": "linear_exact",
    "alpha_on": "white",
    "jpeg_reduction": "covers_square",
}


def hash_preprocessing(preprocess: Callable[[bytes], npt.NDArray[np.uint8]], *, size: int) -> str:
    """Hex SHA-256 over the algorithm's parameters and the golden images' pixels.

    preprocess: file bytes to uint8 [size, size, 3].
    """
    digest = hashlib.sha256(json.dumps({**ALGORITHM, "size": size}, sort_keys=True).encode())
    for image in golden_images(size):
        digest.update(preprocess(image).tobytes())
    return digest.hexdigest()


def golden_images(size: int) -> list[bytes]:
    """PNG files that shrink, grow and do both, in colour, grey, with alpha and with 16 bits."""
    return [
        encode_png(draw_waves(2 * size + 37, 3 * size // 2 + 11, channels=3)),
        encode_png(draw_waves(size // 2 + 1, size // 3 + 1, channels=4)),
        encode_png(draw_waves(size // 2 + 3, 2 * size, channels=1)),
        encode_png(draw_waves(size + 1, size // 2 + 1, channels=1).astype(np.uint16) * 251),
    ]


def draw_waves(height: int, width: int, *, channels: int) -> npt.NDArray[np.uint8]:
    """[height, width, channels] of integer waves with hard edges; the same on every machine."""
    y, x, c = np.ogrid[:height, :width, :channels]
    return np.asarray((x * (3 + c) + y * (5 - c) + (x * y >> 4) * (1 + c)) & 0xFF, np.uint8)


def encode_png(samples: npt.NDArray[np.unsignedinteger[Any]]) -> bytes:
    """A PNG of [H, W, 1|3|4] samples, 8 or 16 bits, written by hand: no encoder to trust."""
    height, width, channels = samples.shape
    depth, colour = samples.itemsize * 8, {1: 0, 3: 2, 4: 6}[channels]
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    filtered = np.hstack([np.zeros((height, 1), np.uint8), rows])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 0))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
