"""What a GPU could do, and what the runtime makes of it: `python -m benchmarks.gpu`.

The limit is one compiled program that encodes and decodes pixels which lie on the device already;
the runtime takes uint8 pixels of the host's memory and returns texts. Each row is the median of
several rounds, warmed up, with both sides on the same photographs. Needs JAX and Keras; neither
TensorFlow nor Spark.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.shared.decoding_speed import images_per_second
from benchmarks.shared.photographs import find_photographs
from models.images import preprocess_image
from models.package import ModelPackage, open_package
from models.runtime import Pixels, build_runtime

ROUNDS = 5
MOST_FILES = 1024
RESERVED_SECONDS = 15  # of --most-seconds, for the photographs at the end
CORES = len(os.sched_getaffinity(0))
COLUMNS = (
    "Precision", "Images per call", "Images per chunk", "Encoder, images/s", "Limit, images/s",
    "Runtime, images/s", "Share", "Compiling, s",
)  # fmt: skip


def main() -> None:
    """Measure the card and then the cores that decode for it, printing each figure at once."""
    options = _options()
    started = time.monotonic()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    package = open_package(options.model)
    files = read_photographs(options.images)
    pixels = load_pixels(files, package.config.image_size, count=max(options.batches))
    _say(f"On {describe_device(options.device)}; {describe_input(options.images, files)}.\n")
    _say(_row(COLUMNS), _row("---" for _ in COLUMNS))
    limits = measure_card(package, pixels, options, until=started + options.most_seconds)
    if limits:
        compare_cores(files, package, limit=max(limits), seconds=options.seconds)


def measure_card(
    package: ModelPackage, pixels: Pixels, options: argparse.Namespace, *, until: float
) -> list[float]:
    """Print rows while there is time; return the limits in images per second."""
    limits: list[float] = []
    for precision in options.precisions:
        card = Card(package, precision=precision, options=options)
        for batch in options.batches:
            if time.monotonic() > until - RESERVED_SECONDS:
                _say(f"\n{options.most_seconds} seconds are over: the remaining rows are left out.")
                return limits
            limits.append(card.measure(pixels[:batch]))
    return limits


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/default"))
    parser.add_argument("--images", type=Path, help="folder of photographs (default: noise)")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument(
        "--chunks", type=int, nargs="+", default=[256], help="what the runtime gives the device"
    )
    parser.add_argument("--precisions", nargs="+", default=["bf16", "float32"])
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure")
    parser.add_argument("--most-seconds", type=float, default=150.0, help="in all, about")
    parser.add_argument("--beam-width", type=int, default=1)
    parser.add_argument("--device", default="gpu", help='"cpu" tries the benchmark out')
    return parser.parse_args()


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def describe_device(device: str) -> str:
    """Choose the device, and say what it is."""
    from models.keras_engine import choose_device

    choose_device(device)
    import jax
    import keras

    if keras.backend.backend() != "jax":
        raise SystemExit("This benchmark runs on JAX: set KERAS_BACKEND=jax.")
    kind = f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, Keras {keras.__version__}"
    if device == "cpu":
        return f"NO GPU, to try the benchmark out ({platform.processor()} {kind})"
    return kind


def describe_input(folder: Path | None, files: Sequence[bytes]) -> str:
    """Say what is captioned."""
    return f"{len(files)} photographs" if folder else f"{len(files)} images of noise"


def read_photographs(folder: Path | None) -> list[bytes]:
    """The bytes of a folder's first files, or JPEGs of 500x375 blurred noise."""
    if folder is not None:
        return [path.read_bytes() for path in find_photographs(folder)[:MOST_FILES]]
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(64)]
    drawn = [cv2.resize(one, (500, 375), interpolation=cv2.INTER_CUBIC) for one in noise]
    return [cv2.imencode(".jpg", one)[1].tobytes() for one in drawn]


def load_pixels(files: Sequence[bytes], size: int, *, count: int) -> Pixels:
    """Pixels uint8 [count, S, S, 3] of the files that decode, from the first again at the end."""
    with ThreadPoolExecutor(CORES) as pool:
        outcomes = pool.map(partial(preprocess_image, size=size), files[:count])
        known = [outcome.pixels for outcome in outcomes if outcome.pixels is not None]
    if not known:
        raise SystemExit("None of the given photographs can be decoded.")
    return np.stack([known[number % len(known)] for number in range(count)])


class Card:
    """A model in one precision on the device, by itself and under the runtime."""

    def __init__(
        self, package: ModelPackage, *, precision: str, options: argparse.Namespace
    ) -> None:
        """Load it once; every program shares the weights."""
        from models.device_engine import DeviceEngine, decode_on_device, encode_on_device
        from models.keras_engine import load_model

        model = load_model(package, precision=precision, device=options.device)
        self._encode = encode_on_device(model)
        self._decode = decode_on_device(model, package.decoding(beam_width=options.beam_width))
        self._runtimes = {
            chunk: build_runtime(
                DeviceEngine(model, batch=chunk), package, beam_width=options.beam_width
            )
            for chunk in options.chunks
        }
        self._precision = precision
        self._seconds: float = options.seconds

    def measure(self, pixels: Pixels) -> float:
        """Print a row for each chunk size; return the limit in images per second."""
        import jax

        there = jax.device_put(pixels)
        images = jax.device_put(np.asarray(len(pixels), np.int32))
        started = time.perf_counter()
        encode = jax.jit(self._encode).lower(there).compile()
        both = jax.jit(lambda pixels, images: self._decode(self._encode(pixels), images))
        whole = both.lower(there, images).compile()
        compiling = time.perf_counter() - started
        encoder = self._rate(lambda: encode(there), len(pixels))
        limit = self._rate(lambda: whole(there, images), len(pixels))
        for chunk, runtime in self._runtimes.items():
            started = time.perf_counter()
            if len(runtime.caption(pixels)) != len(pixels):
                raise AssertionError("an image went without a caption")
            warming = time.perf_counter() - started
            rate = self._rate(partial(runtime.caption, pixels), len(pixels))
            sizes = (self._precision, str(len(pixels)), str(chunk))
            rates = (f"{encoder:,.0f}", f"{limit:,.0f}", f"{rate:,.0f}", f"{rate / limit:.2f}")
            _say(_row((*sizes, *rates, f"{compiling:.1f} + {warming:.1f}")))
        return limit

    def _rate(self, work: Callable[[], Any], images: int) -> float:
        """Images per second: the median of rounds, each of enough calls for its share of time."""
        _time(work, calls=1)
        calls = max(1, round(self._seconds / ROUNDS / _time(work, calls=1)))
        return images * calls / statistics.median(_time(work, calls=calls) for _ in range(ROUNDS))


def _time(work: Callable[[], Any], *, calls: int) -> float:
    """Seconds of so many calls; what JAX hands out before it is computed is waited for."""
    import jax

    wait: Callable[[Any], Any] = jax.block_until_ready
    started = time.perf_counter()
    for _ in range(calls - 1):
        work()
    wait(work())
    return time.perf_counter() - started


def compare_cores(
    files: Sequence[bytes], package: ModelPackage, *, limit: float, seconds: float
) -> None:
    """Print how fast photographs are decoded, and how many cores would keep the card busy."""
    rate = partial(
        images_per_second, files, size=package.config.image_size, seconds=max(1.0, seconds)
    )
    alone, together = rate(processes=1), rate(processes=CORES)
    _say(
        f"\nDecoding photographs: {alone:,.0f} images/s on one core, {together:,.0f} on all {CORES}"
        f" ({together / CORES:,.0f} each); {limit * CORES / together:.1f} cores like these would"
        f" keep this device busy at {limit:,.0f} images/s."
    )


if __name__ == "__main__":
    main()
