"""The limit here: decode, resize, encode, generate in one process on all cores, no Spark.

Every optimisation of the pipeline is in it: the same OpenVINO settings, uint8 into the model, full
batches, decoding beside inference. It hashes nothing, writes nothing and survives nothing.
Layouts: `ahead` decodes the next batch in threads of its own while this one is inferred; `inline`
lets each model's own thread decode, so that one decodes while another infers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.shared.contest import CORES, Contest, Model, parse_contest
from models.runtime import Pixels

AHEAD = "ahead"


class Batches:
    """Files in batches, each given to one thread."""

    def __init__(self, files: list[Path], size: int) -> None:
        self._batches = iter([files[first : first + size] for first in range(0, len(files), size)])
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[list[Path]]:
        return self

    def __next__(self) -> list[Path]:
        with self._lock:
            return next(self._batches)


def main() -> None:
    """Caption everything."""
    contest = parse_contest()
    with contest.clock(), ThreadPoolExecutor(CORES) as decoders:
        batches = Batches(sorted(contest.photographs.iterdir()), contest.batch_images)
        with ThreadPoolExecutor(contest.workers) as workers:
            threads = [
                workers.submit(work, contest, batches, decoders) for _ in range(contest.workers)
            ]
            captions = sum(thread.result() for thread in threads)
    if not captions:
        raise AssertionError("nothing was captioned")


def work(contest: Contest, batches: Batches, decoders: ThreadPoolExecutor) -> int:
    """Caption batches until none is left; return how many images they held."""
    model = contest.load_model()
    decoded = (
        decoded_ahead(model, batches, decoders)
        if contest.layout == AHEAD
        else (np.stack([load(model, file) for file in batch]) for batch in batches)
    )
    return sum(len(model.caption(pixels)[0]) for pixels in decoded)


def decoded_ahead(model: Model, batches: Batches, decoders: ThreadPoolExecutor) -> Iterator[Pixels]:
    """Yield decoded batches while the next one is being decoded."""
    waiting = None
    for batch in batches:
        coming = [decoders.submit(load, model, file) for file in batch]
        if waiting is not None:
            yield np.stack([image.result() for image in waiting])
        waiting = coming
    if waiting is not None:
        yield np.stack([image.result() for image in waiting])


def load(model: Model, file: Path) -> Pixels:
    """Read and decode one file."""
    return model.decode(file.read_bytes())


if __name__ == "__main__":
    main()
