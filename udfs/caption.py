"""Captioning in one Python worker: read, hash, decode and infer with no hop in between.

The worker turns each file of its task into exactly one `Outcome`, in any order; a bad file is an
outcome with a reason. The model is loaded once per Python worker, whatever the number of tasks,
partitions and jobs. Equal bytes within a task are inferred once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import SparkFiles, TaskContext

from conf.errors import EnvironmentFault
from models.images import DecodeLimits
from models.package import open_package
from models.runtime import Caption, Precision, Runtime, load_runtime
from udfs.budget import Account, TaskBudget, ignore
from udfs.outcome import CAPTIONED, OUTCOME_SCHEMA, Outcome
from udfs.preparation import Preparation, Prepared, map_ahead
from udfs.sources import Source

ROWS_PER_BATCH = 256


class Captioner(Protocol):
    """What the worker needs of `models.runtime.CaptionRuntime`."""

    image_size: int

    def encode(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Return the features of pixels `uint8 [B, S, S, 3]`."""

    def generate(self, features: npt.NDArray[np.float32], /) -> list[Caption]:
        """Return the captions of features, in order."""


class RuntimeFactory(Protocol):
    """Loads a model; hashable, and equal factories share one model per Python worker."""

    def __call__(self) -> Captioner:
        """Return the loaded runtime."""

    def __hash__(self) -> int:
        """Agree with equality."""


@dataclass(frozen=True)
class ShippedModel:
    """The model package that the driver shipped to every node as an archive.

    Attributes:
        archive: name under which Spark unpacked it.
        runtime, precision, beam_width, threads: see `models.runtime.load_runtime`.
        on_gpu: whether the model runs on the GPU that Spark gave the task.
    """

    archive: str
    runtime: Runtime
    precision: Precision
    beam_width: int
    threads: int
    on_gpu: bool

    def __call__(self) -> Captioner:
        """Verify the package on this node and load it."""
        package = open_package(Path(SparkFiles.get(self.archive)))
        return load_runtime(
            package,
            runtime=self.runtime,
            precision=self.precision,
            beam_width=self.beam_width,
            threads=self.threads,
            device=f"gpu:{gpu_address()}" if self.on_gpu else "cpu",
        )


def gpu_address() -> str:
    """Return the address of the one GPU that Spark gave this task.

    Raises:
        EnvironmentFault: Spark gave it none, or several.
    """
    addresses = task_gpus()
    if len(addresses) != 1:
        raise EnvironmentFault(
            f"A task that runs on a GPU was given {len(addresses)} of them.",
            remedy="Set spark.task.resource.gpu.amount to 1, as conf/*-gpu.toml do.",
        )
    return addresses[0]


def task_gpus() -> tuple[str, ...]:
    """Return the addresses of the GPUs that Spark gave this task."""
    context = TaskContext.get()
    resources = context.resources() if context is not None else {}
    return tuple(resources["gpu"].addresses) if "gpu" in resources else ()


def exclude_nothing(_image_id: str) -> bool:
    """Let every image through."""
    return False


@dataclass(frozen=True)
class CaptionPlan:
    """All that a worker needs besides its files.

    Attributes:
        model: loads the runtime.
        limits: what one file may cost.
        batch_images: images inferred together.
        decode_threads: threads that read and decode ahead of the model; 0 does it inline.
        is_excluded: whether the image of this id was withdrawn; it is then not even decoded.
    """

    model: RuntimeFactory
    limits: DecodeLimits
    batch_images: int
    decode_threads: int
    is_excluded: Callable[[str], bool] = exclude_nothing


@dataclass(frozen=True)
class CaptionWorker:
    """The function that `DataFrame.mapInArrow` runs on each partition.

    Attributes:
        source: where the partition's files come from.
        plan: how they are captioned.
        known_images: returns sorted arrays of image keys that need no inference, `uint64 [K]`.
        account: is told where each finished task's time went.
    """

    source: Source
    plan: CaptionPlan
    known_images: Callable[[], list[npt.NDArray[np.uint64]]] = list
    account: Account = ignore

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the outcomes of the partition's files, as `OUTCOME_SCHEMA`."""
        threads = self.plan.decode_threads
        budget = TaskBudget(decodes_ahead=threads > 0)
        with budget.measure("load"):
            runtime = load_once(self.plan.model, task_gpus())
            as_batch([])  # pyarrow imports pandas for the first row; here it may be ahead of it
            prepare = Preparation(
                limits=self.plan.limits,
                image_size=runtime.image_size,
                known_images=self.known_images(),
                is_excluded=self.plan.is_excluded,
            )
        batch_images = self.plan.batch_images
        files = self.source(batches)
        prepared = map_ahead(prepare, files, threads=threads, ahead=batch_images, budget=budget)
        outcomes = infer(prepared, runtime, batch_images=batch_images, budget=budget)
        for group in in_groups(outcomes, ROWS_PER_BATCH):
            with budget.measure("write"):
                yield as_batch(group)
        self.account(budget.finish())


def as_batch(outcomes: list[Outcome]) -> pa.RecordBatch:
    """Return outcomes as rows of `OUTCOME_SCHEMA`."""
    names = OUTCOME_SCHEMA.names
    columns = {name: [getattr(row, name) for row in outcomes] for name in names}
    return pa.RecordBatch.from_pydict(columns, OUTCOME_SCHEMA)


@lru_cache(maxsize=1)
def load_once(factory: RuntimeFactory, gpus: tuple[str, ...]) -> Captioner:  # noqa: ARG001
    """Load a model once in this process; another model takes its place.

    A task with other ``gpus`` than the one before loads anew, and hears of it: `choose_device`.
    """
    return factory()


def infer(
    prepared: Iterable[Prepared], runtime: Captioner, *, batch_images: int, budget: TaskBudget
) -> Iterator[Outcome]:
    """Yield one outcome per prepared file; twins come last, with their first's result."""
    waiting: list[Prepared] = []
    results: dict[str, Outcome] = {}
    twins: list[Outcome] = []
    for item in prepared:
        budget.add_preparation(read=item.read_seconds, decode=item.decode_seconds)
        if item.twin:
            twins.append(item.outcome)
        elif item.pixels is None:
            yield _remember(results, item.outcome)
        else:
            waiting.append(item)
            if len(waiting) == batch_images:
                yield from (
                    _remember(results, row) for row in caption_group(waiting, runtime, budget)
                )
                waiting = []
    if waiting:
        yield from (_remember(results, row) for row in caption_group(waiting, runtime, budget))
    for twin in twins:
        yield results[str(twin.image_id)].for_twin(twin)


def caption_group(
    group: list[Prepared], runtime: Captioner, budget: TaskBudget
) -> Iterator[Outcome]:
    """Caption the pixels of a group in one call; the n-th caption belongs to the n-th image."""
    with budget.measure("encode"):
        pixels = np.stack([item.pixels for item in group if item.pixels is not None])
        features = runtime.encode(pixels)
    with budget.measure("generate"):
        captions = runtime.generate(features)
    now = datetime.now(tz=UTC)
    for item, caption in zip(group, captions, strict=True):
        yield replace(
            item.outcome,
            status=CAPTIONED,
            caption=caption.text,
            score=caption.score,
            captioned_at=now,
            inferred=True,
        )


T = TypeVar("T")


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group


def _remember(results: dict[str, Outcome], outcome: Outcome) -> Outcome:
    if outcome.image_id is not None:
        results[outcome.image_id] = outcome
    return outcome
