"""This pipeline beside a bare loop, Ray Data, Daft and a naive Spark job: `make bench`.

Every contestant captions the same photographs with the same exported model, each in a process of
its own, one after the other; who has settings to choose gets the best of a sweep over a part of the
photographs. Inferences must equal files, or the round fails. Finished rounds are kept as JSON
lines: a run that was interrupted goes on where it stopped, and `--repeats` can grow. Other code,
other packages or another machine begin anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.shared.contest import CORES
from benchmarks.shared.counting import counted
from benchmarks.shared.hdfs import hdfs_with
from benchmarks.shared.packages import DEFAULT, prepare_package
from benchmarks.shared.photographs import prepare_photographs
from benchmarks.shared.results import Results, Round, Setting, state_of_the_code
from benchmarks.shared.table import BARE, PIPELINE, as_markdown, replace_in

HDFS = "pipeline, HDFS"
EARLIER_IMAGES = 4
BATCHES = (32, 64, 128)


@dataclass(frozen=True)
class Contestant:
    """A module of `benchmarks.contestants` and the settings that its sweep tries."""

    module: str
    settings: tuple[Setting, ...] = ()


def _sweep(*layouts: str, workers: tuple[int, ...] = (1, CORES)) -> tuple[Setting, ...]:
    chosen = product(dict.fromkeys(workers), BATCHES, layouts)
    return tuple(Setting(count, batch, layout) for count, batch, layout in chosen)


CONTESTANTS = {
    BARE: Contestant("bare", _sweep("ahead", "inline")),
    PIPELINE: Contestant("pipeline"),
    HDFS: Contestant("pipeline"),
    "Ray Data": Contestant("ray_data", _sweep("tasks", "fused")),
    "Daft": Contestant("daft_udf", _sweep("process", "thread")),
    "naive Spark": Contestant("naive", (Setting(CORES, 0),)),
}
SHORT_NAMES = dict(zip(("bare", "local", "hdfs", "ray", "daft", "naive"), CONTESTANTS, strict=True))


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    options = _options()
    cache = options.cache.resolve()
    results = Results(options.results or cache / f"throughput-{state_of_the_code()}.jsonl")
    stage = Stage(cache, options)
    with ExitStack() as stack:
        if "hdfs" in options.contestants and not options.table_only:
            folders = [stage.photographs, stage.earlier]
            stage.hdfs_uri = stack.enter_context(hdfs_with(folders, cache=cache))
        for model, repeat, name in stage.programme():
            measure(stage, results, SHORT_NAMES[name], model=model, repeat=repeat)
    asked = {SHORT_NAMES[name] for name in options.contestants}
    shown = [
        one
        for one in results.rounds
        if one.photographs == stage.photographs.name
        and one.model in options.models
        and one.contestant in asked
    ]
    table = as_markdown(shown, command=f'make bench ARGS="{" ".join(sys.argv[1:])}"')
    print(table)
    if options.write:
        replace_in(options.write, table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photographs (default: samples)")
    parser.add_argument("--count", type=int, default=5000, help="photographs made of them")
    parser.add_argument("--sweep-count", type=int, default=1000, help="photographs of a sweep")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=[DEFAULT, "inception_v3"])
    parser.add_argument("--contestants", nargs="+", default=[*SHORT_NAMES], choices=SHORT_NAMES)
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"))
    parser.add_argument(
        "--results", type=Path, help="file of finished rounds (default: one per state of the code)"
    )
    parser.add_argument("--write", type=Path, help="Markdown file that takes the table")
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    return parser.parse_args()


class Stage:
    """The photographs and models, made once."""

    def __init__(self, cache: Path, options: argparse.Namespace) -> None:
        """Make the photographs."""
        cache.mkdir(parents=True, exist_ok=True)
        self.cache, self.options = cache, options
        self.hdfs_uri = ""
        self.photographs = self._photographs(options.count, seed=options.seed)
        self.few = self._photographs(min(options.sweep_count, options.count), seed=options.seed)
        self.earlier = self._photographs(EARLIER_IMAGES, seed=options.seed + 1)

    def programme(self) -> Iterator[tuple[str, int, str]]:
        """Yield model, repeat and contestant; contestants take turns."""
        if not self.options.table_only:
            repeats = range(1, self.options.repeats + 1)
            yield from product(self.options.models, repeats, self.options.contestants)

    def model(self, name: str) -> Path:
        """Return the folder of a model package."""
        return prepare_package(name, self.cache, seed=self.options.seed)

    def _photographs(self, count: int, *, seed: int) -> Path:
        return prepare_photographs(self.cache, count=count, seed=seed, source=self.options.photos)


def measure(stage: Stage, results: Results, name: str, *, model: str, repeat: int) -> None:
    """Measure one round, unless it was measured before."""
    if results.find((model, name, stage.photographs.name, repeat, False)):
        return
    setting = best_setting(stage, results, name, model=model)
    run_round(stage, results, name, model=model, repeat=repeat, setting=setting)


def best_setting(stage: Stage, results: Results, name: str, *, model: str) -> Setting | None:
    """Return the fastest setting on a part of the photographs; each is measured once."""
    settings = CONTESTANTS[name].settings
    if len(settings) < 2:
        return settings[0] if settings else None
    rounds = []
    for number, setting in enumerate(settings):
        known = results.find((model, name, stage.few.name, number, True))
        rounds.append(
            known
            or run_round(
                stage, results, name, model=model, repeat=number, setting=setting, is_sweep=True
            )
        )
    return max(rounds, key=lambda one: one.images_per_second).setting


def run_round(
    stage: Stage,
    results: Results,
    name: str,
    *,
    model: str,
    repeat: int,
    setting: Setting | None,
    is_sweep: bool = False,
) -> Round:
    """Run a contestant in a process of its own and keep its figures."""
    photographs = stage.few if is_sweep else stage.photographs
    images = sum(1 for _ in photographs.iterdir())
    with tempfile.TemporaryDirectory(dir=stage.cache, prefix="round-") as folder:
        scratch = Path(folder)
        command = _command(stage, name, setting, model=model, photographs=photographs)
        figures = _run(command, scratch)
        inferences = counted(scratch / "counts")
    if inferences != images:
        raise AssertionError(f"{name} made {inferences} inferences for {images} files")
    finished = Round(
        model, name, photographs.name, repeat, is_sweep, setting, images=images, **figures
    )
    results.add(finished)
    label = "sweep" if is_sweep else f"repeat {repeat}"
    print(f"{model}, {name}, {label}, {setting or ''}: {finished.images_per_second:.1f} images/s")
    return finished


def _command(
    stage: Stage, name: str, setting: Setting | None, *, model: str, photographs: Path
) -> list[str]:
    module = f"benchmarks.contestants.{CONTESTANTS[name].module}"
    command = [sys.executable, "-m", module, "--model", str(stage.model(model))]
    if setting is None:
        root = stage.hdfs_uri if name == HDFS else f"file:{stage.cache}"
        lake = f"{root}/lake-{time.time_ns()}" if name == HDFS else "file:{scratch}/lake"
        places = {"input": photographs.name, "earlier": stage.earlier.name}
        command += [
            part for key, place in places.items() for part in (f"--{key}", f"{root}/{place}")
        ]
        return [*command, "--lake", lake]
    return [
        *command,
        *("--photographs", str(photographs), "--workers", str(setting.workers)),
        *("--batch-images", str(setting.batch_images), "--layout", setting.layout),
    ]


def _run(command: list[str], scratch: Path) -> dict[str, Any]:
    """Run the contestant; its output is shown where it fails."""
    files = {name: scratch / name for name in ("scratch", "counts", "result")}
    files["scratch"].mkdir()
    command = [part.replace("{scratch}", str(scratch)) for part in command]
    arguments = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    log = scratch / "log"
    started = time.perf_counter()
    with log.open("wb") as output:
        ended = subprocess.run([*command, *arguments], stdout=output, stderr=output, check=False)
    total = time.perf_counter() - started
    if ended.returncode != 0:
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:], file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}.")
    figures: dict[str, Any] = json.loads(files["result"].read_text(encoding="utf-8"))
    shutil.rmtree(files["scratch"])
    return {"total_seconds": total} | figures


if __name__ == "__main__":
    main()
