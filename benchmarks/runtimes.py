"""Images per second of Keras and OpenVINO side by side: `python -m benchmarks.runtimes`.

Two captioners: the default model, and an inception_v3 one with untrained weights (speed alone).
Every contestant captions the same decoded photographs, warmed up, in turns, and the best of
several rounds counts, so that what else the machine does hits all of them alike. CPU time per
image stands beside it, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.shared.packages import Pixels, load_pixels, write_untrained
from benchmarks.shared.photographs import find_photographs
from conf.settings import DEFAULT_MODEL
from models.package import ModelPackage, open_package
from models.runtime import CaptionRuntime, Precision, Runtime, load_runtime


class Cost(NamedTuple):
    """What captioning all the images took; the least wall time ranks first."""

    wall_seconds: float
    cpu_seconds: float


class Contestant(NamedTuple):
    """One way to run a model."""

    runtime: Runtime
    precision: Precision


BASELINE = Contestant("keras", "float32")
CONTESTANTS = (
    BASELINE,
    Contestant("openvino", "float32"),
    Contestant("openvino", "bf16"),
    Contestant("openvino", "int8"),
)


def main() -> None:
    """Measure both models and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of photographs (default: samples)")
    parser.add_argument("--count", type=int, default=128, help="images per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--beam-width", type=int, default=1)
    options = parser.parse_args()
    files = find_photographs(options.images)
    default = open_package(DEFAULT_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        inception = write_untrained("inception_v3", default, files, Path(folder, "inception_v3"))
        for package in (default, inception):
            pixels = load_pixels(files, package.config.image_size, count=options.count)
            costs = measure(
                package,
                pixels,
                rounds=options.rounds,
                threads=options.threads,
                beam_width=options.beam_width,
            )
            print_costs(package, costs, images=options.count)


def measure(
    package: ModelPackage, pixels: Pixels, *, rounds: int, threads: int, beam_width: int
) -> dict[Contestant, Cost]:
    """What each contestant took at its best, all of them in every round."""
    runtimes = {
        one: load_runtime(
            package,
            runtime=one.runtime,
            precision=one.precision,
            threads=threads,
            beam_width=beam_width,
        )
        for one in CONTESTANTS
    }
    for runtime in runtimes.values():
        runtime.caption(pixels[:64])
    costs: dict[Contestant, list[Cost]] = {one: [] for one in CONTESTANTS}
    for _ in range(rounds):
        for one, runtime in runtimes.items():
            costs[one].append(_caption_all(runtime, pixels))
    return {one: min(taken) for one, taken in costs.items()}


def _caption_all(runtime: CaptionRuntime, pixels: Pixels) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    captions = runtime.caption(pixels)
    if len(captions) != len(pixels):
        raise AssertionError("an image went without a caption")
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def print_costs(package: ModelPackage, costs: dict[Contestant, Cost], *, images: int) -> None:
    """A line per contestant: images per second and CPU time, and how they compare to Keras."""
    print(f"\n{package.config.name} ({package.config.captioner['encoder']}), {images} images")
    base = costs[BASELINE]
    for one, cost in costs.items():
        print(
            f"  {one.runtime:9} {one.precision:8} {images / cost.wall_seconds:8.1f} images/s "
            f"{base.wall_seconds / cost.wall_seconds:6.2f}x "
            f"{1e3 * cost.cpu_seconds / images:8.2f} CPU ms/image "
            f"{base.cpu_seconds / cost.cpu_seconds:6.2f}x"
        )


if __name__ == "__main__":
    main()
