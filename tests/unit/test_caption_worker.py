"""The worker function, run without Spark, with a runtime that shows what it was given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from pyspark import TaskContext

import udfs.caption
import udfs.preparation
from conf.errors import EnvironmentFault
from models.images import DecodeLimits
from models.runtime import Caption
from udfs.budget import WORKER_STAGES, Account, Seconds, ignore
from udfs.caption import CaptionPlan, CaptionWorker, gpu_address, load_once
from udfs.outcome import OUTCOME_SCHEMA
from udfs.preparation import contains, image_key
from udfs.sources import AssignedLocalFiles, Content, SourceFile, content_rows

SIZE = 32
LOADS: list[int] = []


class MeanColourRuntime:
    """Says each image's mean colour, and remembers how many images it was given at a time."""

    image_size = SIZE

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.batches.append(len(pixels))
        means: npt.NDArray[np.float32] = pixels.mean(axis=(1, 2)).round().astype(np.float32)
        return means

    def generate(self, features: npt.NDArray[np.float32]) -> list[Caption]:
        return [Caption(" ".join(str(int(value)) for value in row), 0.5) for row in features]


@dataclass(frozen=True)
class FakeModel:
    name: str

    def __call__(self) -> MeanColourRuntime:
        LOADS.append(1)
        return MeanColourRuntime()


def png(colour: tuple[int, int, int], side: int = 8) -> bytes:
    """A flat RGB image."""
    image = np.full((side, side, 3), colour[::-1], np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def run(
    files: dict[str, bytes],
    *,
    batch: int = 4,
    threads: int = 0,
    known: tuple[int, ...] = (),
    account: Account = ignore,
) -> tuple[dict[str, dict[str, Any]], MeanColourRuntime]:
    load_once.cache_clear()
    model = FakeModel("test")
    plan = CaptionPlan(
        model=model,
        limits=DecodeLimits(),
        batch_images=batch,
        decode_threads=threads,
    )
    rows = pa.RecordBatch.from_pydict(
        {
            "path": list(files),
            "content": list(files.values()),
            "mtime": pa.array([None] * len(files), pa.timestamp("us", tz="UTC")),
        }
    )
    results = list(
        CaptionWorker(content_rows, plan, lambda: [np.sort(np.array(known, np.uint64))], account)(
            iter([rows])
        )
    )
    assert all(batch.schema == OUTCOME_SCHEMA for batch in results)
    rows_out = [row for batch in results for row in batch.to_pylist()]
    assert len(rows_out) == len({row["path"] for row in rows_out})
    runtime = load_once(model, ())
    assert isinstance(runtime, MeanColourRuntime)
    return {row["path"]: row for row in rows_out}, runtime


def colours(count: int) -> Iterator[tuple[int, int, int]]:
    return ((index, 2 * index, 255 - index) for index in range(count))


@pytest.mark.parametrize("good", range(10))
@pytest.mark.parametrize("threads", [0, 3])
def test_each_caption_belongs_to_its_own_image_among_bad_ones(good: int, threads: int) -> None:
    files = {}
    for index, colour in enumerate(colours(good)):
        files[f"bad{index}"] = b"not an image " + bytes([index])
        files[f"good{index}"] = png(colour)
    rows, _ = run(files, threads=threads)
    assert set(rows) == set(files)
    for index, (red, green, blue) in enumerate(colours(good)):
        assert rows[f"good{index}"]["caption"] == f"{red} {green} {blue}"
        assert (
            rows[f"good{index}"]["image_id"] == hashlib.sha256(png((red, green, blue))).hexdigest()
        )
        assert rows[f"bad{index}"]["status"] == "rejected"
        assert rows[f"bad{index}"]["caption"] is None


def test_bad_files_leave_the_batches_full() -> None:
    files = {f"g{index}": png(colour) for index, colour in enumerate(colours(9))}
    files |= {f"b{index}": b"x%d" % index for index in range(7)}
    _, runtime = run(files, batch=4)
    assert runtime.batches == [4, 4, 1]


def test_equal_bytes_are_inferred_once_and_captioned_everywhere() -> None:
    rows, runtime = run({"a": png((9, 9, 9)), "b": png((9, 9, 9)), "c": png((1, 2, 3))})
    assert sum(runtime.batches) == 2
    assert rows["b"]["caption"] == rows["a"]["caption"] == "9 9 9"
    assert [rows[path]["inferred"] for path in "abc"] == [True, False, True]


def test_equal_bad_bytes_are_rejected_everywhere() -> None:
    rows, _ = run({"a": b"junk", "b": b"junk"})
    assert rows["a"]["reason"] == rows["b"]["reason"] == "not_an_image"


def test_an_image_with_a_caption_is_neither_decoded_nor_inferred() -> None:
    known = image_key(hashlib.sha256(png((5, 5, 5))).hexdigest())
    rows, runtime = run({"a": png((5, 5, 5)), "b": png((6, 6, 6))}, known=(known,))
    assert rows["a"]["status"] == "already_captioned"
    assert runtime.batches == [1]


def test_the_model_is_loaded_once_for_many_partitions() -> None:
    LOADS.clear()
    load_once.cache_clear()
    for _ in range(3):
        load_once(FakeModel("same"), ())
    assert len(LOADS) == 1


def test_a_task_on_another_gpu_does_not_get_the_model_of_the_first() -> None:
    LOADS.clear()
    load_once.cache_clear()
    for card in ("0", "0", "1"):
        load_once(FakeModel("same"), (card,))
    assert len(LOADS) == 2


class Clock:
    """Stands still, but for what the test's own steps take."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def taking(self, seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            self.now += seconds
            return function(*arguments, **options)

        return slow


def test_the_stages_of_a_task_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in ("udfs.budget", "udfs.preparation"):
        monkeypatch.setattr(f"{module}.time", clock)
    monkeypatch.setattr("udfs.budget.seconds_to_first_task", lambda: 0.5)
    for owner, name, duration in (
        (udfs.caption, "load_once", 2),
        (udfs.caption, "as_batch", 1),  # once beside the model, and for each batch of rows
        (udfs.preparation, "preprocess_safely", 5),
        (MeanColourRuntime, "encode", 7),
        (MeanColourRuntime, "generate", 11),
    ):
        monkeypatch.setattr(owner, name, clock.taking(duration, getattr(owner, name)))

    def slow_source(_batches: object) -> Iterator[SourceFile]:
        for index, colour in enumerate(colours(6)):
            clock.now += 0.25
            yield SourceFile(str(index), clock.taking(3, partial(Content, png(colour))))

    budgets: list[Seconds] = []
    plan = CaptionPlan(FakeModel("test"), DecodeLimits(), batch_images=4, decode_threads=0)
    for _rows in CaptionWorker(slow_source, plan, account=budgets.append)(iter(())):
        clock.now += 13  # Spark takes the rows
    (seconds,) = budgets
    expected = {
        "start": 0.5,
        "load": 2 + 1,
        "wait": 6 * 0.25,
        "read": 6 * 3,
        "decode": 6 * 5,
        "encode": 2 * 7,
        "generate": 2 * 11,
        "write": 1 + 13,
    }
    assert seconds == expected | {"tasks": sum(expected.values())}
    assert set(expected) == set(WORKER_STAGES)


def test_what_decode_threads_do_is_counted_beside_the_task() -> None:
    budgets: list[Seconds] = []
    run(
        {f"{index}": png(colour) for index, colour in enumerate(colours(9))},
        threads=3,
        account=budgets.append,
    )
    (seconds,) = budgets
    assert seconds["read_ahead"] > 0
    assert seconds["decode_ahead"] > 0
    assert not {"read", "decode"} & set(seconds)
    assert sum(seconds.get(stage, 0.0) for stage in WORKER_STAGES) <= seconds["tasks"]


def test_known_keys_are_found_exactly() -> None:
    keys = np.array([1, 5, 2**64 - 1], np.uint64)
    assert [contains(keys, key) for key in (0, 1, 4, 5, 2**64 - 1)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_a_vanished_local_file_has_its_reason(tmp_path: Path) -> None:
    source = AssignedLocalFiles([[f"file:{tmp_path}/gone.jpg"]], max_bytes=100)
    (file,) = source(iter([pa.RecordBatch.from_pydict({"id": [0]})]))
    content = file.read()
    assert (content.data, content.reason) == (None, "vanished")


def test_a_local_file_over_the_limit_stays_unread(tmp_path: Path) -> None:
    (tmp_path / "big.jpg").write_bytes(b"x" * 101)
    source = AssignedLocalFiles([[f"file:{tmp_path}/big.jpg"]], max_bytes=100)
    (file,) = source(iter([pa.RecordBatch.from_pydict({"id": [0]})]))
    content = file.read()
    assert (content.data, content.length, content.reason) == (None, 101, "too_large")


@pytest.mark.parametrize("addresses", [[], ["0", "1"]])
def test_a_task_without_exactly_one_gpu_is_refused(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"gpu": SimpleNamespace(addresses=addresses)} if addresses else {}
    context = SimpleNamespace(resources=lambda: resources)
    monkeypatch.setattr(TaskContext, "get", lambda: context)
    with pytest.raises(EnvironmentFault, match=f"given {len(addresses)}"):
        gpu_address()


def test_a_task_uses_the_gpu_that_spark_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(resources=lambda: {"gpu": SimpleNamespace(addresses=["3"])})
    monkeypatch.setattr(TaskContext, "get", lambda: context)
    assert gpu_address() == "3"
