"""What others do to lists and tables while a run is under way."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from conf.errors import EnvironmentFault, LakeError
from jobs.chunks import Chunk
from jobs.inference import Inference
from models.package import ModelPackage
from storage.captions import commit_chunk
from storage.claims import Claim, Claims
from storage.forgetting import Withdrawal, withdraw
from storage.lake import Lake, open_existing_lake
from storage.runs import write_run
from tests.captioning import captions, fill, places, run_job, runs
from udfs.outcome import OUTCOME_SCHEMA


def do_after_inference(patch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let something happen when the workers are done with a chunk that isn't committed yet."""
    infer = Inference.outcomes

    def infer_then_act(inference: Inference, chunk: Chunk) -> pa.Table:
        outcomes = infer(inference, chunk)
        action()
        return outcomes

    patch.setattr(Inference, "outcomes", infer_then_act)


def write_rows_after(patch: pytest.MonkeyPatch, event: threading.Event) -> None:
    """Let the rows of runs be written a second after the event, and no sooner."""

    def write_late(*values: Any, **named: Any) -> object:
        assert event.wait(60)
        time.sleep(1)
        return write_run(*values, **named)

    patch.setattr("jobs.recording.write_run", write_late)


def test_a_photograph_that_is_let_in_again_during_a_run_is_captioned_by_the_next(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 1)
    run_job(spark, tiny_package, run_id="one", **places(tmp_path))
    mine = fill(tmp_path / "in", 2, first_seed=7)[0]
    lake = open_existing_lake(spark, f"file:{tmp_path / 'lake'}")
    image_id = hashlib.sha256(mine.read_bytes()).hexdigest()
    withdraw(lake, Withdrawal(frozenset(), frozenset({image_id})), run_id="test")
    with monkeypatch.context() as patch:
        statement = f"DELETE FROM delta.`{lake.exclusions_uri}`"
        do_after_inference(patch, lambda: spark.sql(statement))
        run_job(spark, tiny_package, run_id="two", **places(tmp_path))
    run = runs(tmp_path / "lake")["two"]
    assert (run["state"], run["captioned"], run["excluded"]) == ("succeeded", 1, 1)
    assert f"file:{mine}" not in {row["path"] for row in captions(tmp_path / "lake")}
    run_job(spark, tiny_package, run_id="three", **places(tmp_path))
    assert {row["status"] for row in captions(tmp_path / "lake")} == {"captioned"}
    assert len(captions(tmp_path / "lake")) == 3


def test_a_copy_whose_caption_went_and_which_cannot_be_read_again_is_rejected(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = fill(tmp_path / "in", 1)[0]
    run_job(spark, tiny_package, run_id="one", **places(tmp_path))
    copy = first.with_name("copy.png")
    copy.write_bytes(first.read_bytes())
    statement = f"DELETE FROM delta.`file:{tmp_path / 'lake' / 'captions'}`"
    do_after_inference(monkeypatch, lambda: spark.sql(statement))
    monkeypatch.setattr(Inference, "without_known_images", lambda _: Unreadable())
    run_job(spark, tiny_package, run_id="two", include="copy.png", **places(tmp_path))
    (row,) = captions(tmp_path / "lake")
    assert (row["path"], row["status"], row["reason"]) == (f"file:{copy}", "rejected", "unreadable")


class Unreadable:
    """Inference over files that Spark leaves out, as it does with those that it can't read."""

    def outcomes(self, _chunk: Chunk) -> pa.Table:
        return OUTCOME_SCHEMA.empty_table()


def test_waiting_for_another_run_is_told_apart_and_slows_no_figure(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 3)
    others = [[Claim(0, "other~1", frozenset())]] * 3
    monkeypatch.setattr(Claims, "before", lambda *_: others.pop() if others else [])
    started = time.monotonic()
    run_job(spark, tiny_package, run_id="one", **places(tmp_path))
    elapsed = time.monotonic() - started
    run = runs(tmp_path / "lake")["one"]
    waited = dict(run["stage_seconds"])["waiting"]
    assert waited > 3.0
    assert 3 / run["images_per_second"] < elapsed - waited + 0.1


def test_a_runs_row_is_there_before_its_first_commit(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 1)
    inferred = threading.Event()
    states: list[str] = []

    def commit_and_look(lake: Lake, *values: Any, **named: Any) -> None:
        states.extend(run["state"] for run in runs(tmp_path / "lake").values())
        commit_chunk(lake, *values, **named)

    do_after_inference(monkeypatch, inferred.set)
    write_rows_after(monkeypatch, inferred)
    monkeypatch.setattr("jobs.captioning.commit_chunk", commit_and_look)
    run_job(spark, tiny_package, **places(tmp_path))
    assert states == ["running"]
    assert [run["state"] for run in runs(tmp_path / "lake").values()] == ["succeeded"]


def test_nothing_is_committed_by_a_run_whose_row_cant_be_written(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(tmp_path / "in", 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise LakeError("no space for a row")

    monkeypatch.setattr("jobs.recording.write_run", refuse)
    with pytest.raises(LakeError, match="no space for a row"):
        run_job(spark, tiny_package, **places(tmp_path))
    assert captions(tmp_path / "lake") == []
    assert "end (failed) could not be recorded" in caplog.text


def test_a_run_that_fails_while_its_row_is_written_has_one_row_that_says_so(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 1)
    has_failed = threading.Event()

    def fail() -> None:
        has_failed.set()
        raise EnvironmentFault("the workers fail")

    do_after_inference(monkeypatch, fail)
    write_rows_after(monkeypatch, has_failed)
    with pytest.raises(EnvironmentFault, match="the workers fail"):
        run_job(spark, tiny_package, **places(tmp_path))
    assert [run["state"] for run in runs(tmp_path / "lake").values()] == ["failed"]


def test_each_failed_try_of_a_run_is_recorded_though_no_task_of_it_began(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 1)

    def fail(*_: Any) -> None:
        raise EnvironmentFault("no worker starts")

    monkeypatch.setattr(Inference, "outcomes", fail)
    for _ in range(2):
        began = datetime.now(UTC)
        with pytest.raises(EnvironmentFault, match="no worker starts"):
            run_job(spark, tiny_package, run_id="one", **places(tmp_path))
        (run,) = runs(tmp_path / "lake").values()
        assert run["state"] == "failed"
        assert run["ended_at"] > began
