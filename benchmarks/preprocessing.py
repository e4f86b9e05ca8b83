"""Preprocessing beside the bare OpenCV calls: what the safety costs.

Run `python -m benchmarks.preprocessing`. Each sample photograph is saved as a JPEG of 640x480; the
best of many rounds counts, so that a busy machine disturbs little. Prints microseconds per image.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from models.images import DecodeLimits, preprocess_image
from models.isolation import IsolatedPreprocessor
from models.samples import sample_photographs
from models.watchdog import guard

ROUNDS = 40
LIMITS = DecodeLimits()


def photographs() -> list[bytes]:
    """The samples as 640x480 JPEG."""
    files = [np.fromfile(path, np.uint8) for path in sample_photographs()]
    squashed = [cv2.resize(_decode(file), (640, 480)) for file in files]
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in squashed]


def _decode(file: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)


def bare(data: bytes, *, size: int, flags: int) -> None:
    """What a careless loop would do."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is not None:
        square = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        cv2.cvtColor(square, cv2.COLOR_BGR2RGB)


def guarded(data: bytes, *, size: int) -> None:
    """As the captioning worker does it."""
    with guard("photograph", timeout_seconds=60):
        preprocess_image(data, size=size)


def best_microseconds(work: Callable[[bytes], object], images: list[bytes]) -> float:
    """Mean over the images of each one's best round."""
    return (
        1e6
        * sum(min(_seconds(work, image) for _ in range(ROUNDS)) for image in images)
        / len(images)
    )


def _seconds(work: Callable[[bytes], object], image: bytes) -> float:
    started = time.perf_counter()
    work(image)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    images = photographs()
    for size in (224, 299):
        reduced = cv2.IMREAD_REDUCED_COLOR_2 if size <= 240 else cv2.IMREAD_COLOR
        with IsolatedPreprocessor() as isolated:
            contestants: dict[str, Callable[[bytes], object]] = {
                "bare, decoded in full": partial(bare, size=size, flags=cv2.IMREAD_COLOR),
                "bare, same decoding": partial(bare, size=size, flags=reduced),
                "preprocess_image, watched": partial(guarded, size=size),
                "in a child process": partial(isolated.preprocess, size=size, limits=LIMITS),
            }
            for name, work in contestants.items():
                print(f"{size}  {name:28} {best_microseconds(work, images):7.0f} us")


if __name__ == "__main__":
    main()
