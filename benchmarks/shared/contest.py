"""What every contestant is told, and what it tells in return."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.shared.counting import count_inferences
from models.images import preprocess_image
from models.package import ModelPackage, open_package
from models.runtime import CaptionRuntime, Pixels, load_runtime

CORES = len(os.sched_getaffinity(0))  # as Spark counts them
cv2.setNumThreads(1)  # as in the pipeline: workers share the cores


@dataclass(frozen=True)
class Contest:
    """One round of one contestant.

    Attributes:
        photographs: folder of JPEG files.
        model: folder of the model package.
        scratch: empty folder for output.
        result: file that takes the contestant's figures.
        counts: folder in which inferences are counted.
        workers: processes, actors or threads that hold a model.
        batch_images: images handed to the model at once.
        layout: what else the contestant's sweep varies.
    """

    photographs: Path
    model: Path
    scratch: Path
    result: Path
    counts: Path
    workers: int
    batch_images: int
    layout: str

    @property
    def threads(self) -> int:
        """The cores of one worker."""
        return max(1, CORES // self.workers)

    def load_model(self) -> Model:
        """Load the model in this process, and count what it infers."""
        return Model(str(self.model), str(self.counts), self.threads)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Measure from the ready session to the finished table."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self.result.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")


def parse_contest() -> Contest:
    """Return what the command line says."""
    parser = argparse.ArgumentParser()
    for name in ("photographs", "model", "scratch", "result", "counts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batch-images", type=int, required=True)
    parser.add_argument("--layout", default="")
    return Contest(**vars(parser.parse_args()))


class Model:
    """The exported model with its counter; made once per worker of whichever contestant."""

    def __init__(self, folder: str, counts: str, threads: int) -> None:
        """Load it as the pipeline does: int8, greedy, unpinned threads."""
        count_inferences(Path(counts))
        package: ModelPackage = open_package(folder)
        self._runtime: CaptionRuntime = load_runtime(package, threads=threads)
        self._size = package.config.image_size

    def decode(self, data: bytes) -> Pixels:
        """Return pixels `uint8 [S, S, 3]`, by the pipeline's own preprocessing."""
        return decode(data, size=self._size)

    def caption(self, pixels: Pixels) -> tuple[list[str], list[float]]:
        """Return captions and scores of pixels `uint8 [B, S, S, 3]`."""
        found = self._runtime.caption(pixels)
        return [caption.text for caption in found], [caption.score for caption in found]


def decode(data: bytes, *, size: int) -> Pixels:
    """Return pixels `uint8 [S, S, 3]`."""
    pixels = preprocess_image(data, size=size).pixels
    if pixels is None:
        raise ValueError("a photograph of the benchmark can't be decoded")
    return pixels
