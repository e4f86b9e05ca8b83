"""The one place that hands bytes to OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from models.image_header import Format
from models.image_layout import Layout
from models.image_pixels import Samples
from models.image_reading import RefusedError, corrupt, truncated

# libjpeg can decode at a half, a quarter or an eighth, at nearly twice the speed. Measured with
# EfficientNet-Lite0 on 640-pixel photographs, that moves the features as little as saving the JPEG
# again at quality 75 does, as long as the decoded image still covers the square.
_REDUCTIONS = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)

_OUT_OF_MEMORY = (f"({cv2.Error.StsNoMem}:", "bad_alloc")

# A hostile batch would otherwise write several lines per file into the executors' logs; the
# outcome row says what happened.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes, *, form: Format, layout: Layout, size: int) -> Samples:
    """OpenCV's samples of the first image, untouched but for scaled-down decoding of JPEG.

    Raises RefusedError: corrupt or truncated where OpenCV gives nothing. Where it finds no memory,
    raises what `is_out_of_memory` recognises.
    """
    scale, flags = choose_reduction(layout, form=form, size=size)
    image = _imdecode(layout.decodable or data, flags)
    if image is None:
        raise _explain_failure(data, form=form, layout=layout)
    width, height = layout.shown_size if form.name == "tiff" else (layout.width, layout.height)
    if image.shape[:2] != (-(-height // scale), -(-width // scale)):
        raise corrupt(f"{image.shape[1]}x{image.shape[0]} pixels, header {width}x{height}")
    return image


def choose_reduction(layout: Layout, *, form: Format, size: int) -> tuple[int, int]:
    """(divisor, OpenCV flags); the largest divisor that leaves both sides as long as the square."""
    if not layout.reads_as_colour:
        return 1, cv2.IMREAD_UNCHANGED
    if form.name != "jpeg":
        return 1, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    for scale, flags in _REDUCTIONS:
        if min(layout.width, layout.height) // scale >= size:
            return scale, flags | cv2.IMREAD_IGNORE_ORIENTATION
    return 1, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def _imdecode(data: bytes, flags: int) -> Samples | None:
    """None where OpenCV fails, whichever way it says so. Releases the GIL."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if is_out_of_memory(error):
            raise
        return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, numpy, OpenCV or the C++ below it asked for memory that there is not.

    OpenCV's code is read from the message: as an attribute it is one for all threads.
    """
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _explain_failure(data: bytes, *, form: Format, layout: Layout) -> RefusedError:
    if form.is_cut_short(data):
        return truncated("the data end before the last pixel")
    is_padded = form.name == "jpeg" and layout.decodable is not None
    # With its end marker libjpeg fills up what is missing, so success here means a short scan.
    if is_padded and _imdecode(data, cv2.IMREAD_COLOR) is not None:
        return truncated("the scan ends before its last pixel")
    return corrupt("OpenCV can't decode it")
