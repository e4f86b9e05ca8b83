"""Whether time per image and memory stay flat: `python -m benchmarks scale --counts 1000 100000`.

Captions ever more photographs, each count into a lake of its own, and runs again over the finished
ones. Prints images per second, the tasks' time for each image beyond loading the model, the peak
memory of each quarter of the run by kind of process, and how long the run with nothing to do took.
Small photographs (a quarter of the pixels) keep the disk small; `--model` may name a smaller model
for the same reason. `--hdfs` has photographs and lake on a real HDFS.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.hdfs import hdfs_with
from benchmarks.shared.memory import DRIVER, JVM, WORKERS, MemoryLog, watching_memory
from benchmarks.shared.photographs import prepare_photographs
from benchmarks.shared.results import describe_machine
from conf.settings import DEFAULT_MODEL, REPOSITORY


def main() -> None:
    """Measure each count and print a line for each."""
    options = _options()
    cache = options.cache.resolve()
    print(f"{describe_machine()}; {options.model}; {'HDFS' if options.hdfs else 'local files'}")
    for count in options.counts:
        photographs = prepare_photographs(
            cache, count=count, seed=1, source=options.photos, scale=0.5
        )
        with _places(photographs, cache, on_hdfs=options.hdfs) as places:
            first, memory, _ = run(places, options.model)
            again, idle_memory, seconds = run(places, options.model)
        if first["captioned"] != count or again["already_done"] != count:
            raise AssertionError(f"{first['captioned']} captioned, {again['already_done']} done")
        print(describe(first, memory), flush=True)
        within = f"{seconds:.0f} s, {_own_seconds(again):.0f} s of them after Spark's start"
        print(f"    again, nothing pending: {within}; {_memory(idle_memory)}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--photos", type=Path, help="folder of photographs (default: samples)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--hdfs", action="store_true", help="photographs and lake on a real HDFS")
    return parser.parse_args()


@dataclass(frozen=True)
class Places:
    """Where a run finds its photographs, and puts its tables and its summary."""

    input: str
    lake: str
    summary: Path


@contextmanager
def _places(photographs: Path, cache: Path, *, on_hdfs: bool) -> Iterator[Places]:
    with tempfile.TemporaryDirectory(dir=cache, prefix="scale-") as folder:
        summary = Path(folder) / "summary.json"
        if on_hdfs:
            with hdfs_with([photographs], cache=cache) as uri:
                yield Places(f"{uri}/{photographs.name}", f"{uri}/lake", summary)
        else:
            yield Places(f"file:{photographs}", f"file:{folder}/lake", summary)


def run(places: Places, model: str) -> tuple[dict[str, Any], MemoryLog, float]:
    """Run the job; return its summary, its memory and the seconds of the whole command."""
    options = {"input": places.input, "lake": places.lake, "model": model}
    options["summary-json"] = places.summary.as_uri()
    started = time.perf_counter()
    with (
        subprocess.Popen(
            [
                str(REPOSITORY / "spark-submit.sh"),
                "caption_images",
                *[part for name, value in options.items() for part in (f"--{name}", value)],
            ],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        ) as job,
        watching_memory(job.pid) as memory,
    ):
        code = job.wait()
    if code != 0:
        raise SystemExit(f"caption_images ended with {code}.")
    return json.loads(places.summary.read_text()), memory, time.perf_counter() - started


def describe(summary: dict[str, Any], memory: MemoryLog) -> str:
    """Return a run's line."""
    seconds = summary["stage_seconds"]
    captioning = summary["captioned"] / seconds["captioning"]
    tasks = 1000 * (seconds["tasks"] - seconds["start"] - seconds["load"]) / summary["captioned"]
    return (
        f"{summary['captioned']:7d} images: {summary['images_per_second']:.1f} images/s in all, "
        f"{captioning:.1f} while captioning, {tasks:.2f} ms of a worker for each, "
        f"{seconds['start'] + seconds['load']:.1f} s of workers to start; {_memory(memory)}"
    )


def _memory(log: MemoryLog) -> str:
    shown = (
        f"{kind} {' '.join(f'{peak:.0f}' for peak in log.quarters(kind))}"
        for kind in (JVM, DRIVER, WORKERS)
    )
    return f"peak MiB by quarter: {', '.join(shown)}"


def _own_seconds(summary: dict[str, Any]) -> float:
    """The run's own stages, all of them the driver's where nothing is pending."""
    return float(sum(summary["stage_seconds"].values()))


if __name__ == "__main__":
    main()
