"""The whole job on local files: every file one row, reruns free, nothing lost or doubled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from conf.environments import load_environment
from conf.errors import (
    EnvironmentFault,
    InputError,
    LakeError,
    ReconciliationError,
    RejectedShareError,
    UsageError,
)
from conf.resolve import Resolved
from conf.settings import CaptionSettings
from jobs.caption_images import main
from jobs.chunks import Chunk
from jobs.inference import Inference
from jobs.stopping import Stop, Terminated
from models.images import preprocess_image
from models.package import ModelPackage
from models.runtime import load_runtime
from storage.captions import Stamp, commit_chunk
from storage.lake import Lake
from tests.captioning import (
    captions,
    do_after_listing,
    fill,
    photograph,
    places,
    run_job,
    runs,
)
from udfs.budget import WORKER_STAGES


def test_every_file_ends_in_exactly_one_row(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    batch, lake = tmp_path / "in" / "night", tmp_path / "lake"
    fill(batch, 5)
    (batch / "page.jpg").write_text("<html>not found</html>")
    (batch / "nothing.png").write_bytes(b"")
    whole = photograph(99)
    (batch / "half.png").write_bytes(whole[: len(whole) // 2])
    (batch / "_SUCCESS").touch()
    run_job(spark, tiny_package, input=str(batch), lake=str(lake), run_id="first", chunk_files=3)
    rows = captions(lake)
    assert [Path(row["path"]).name for row in rows] == [
        *(f"{seed:05d}.png" for seed in range(5)),
        "half.png",
        "nothing.png",
        "page.jpg",
    ]
    assert [row["status"] for row in rows] == ["captioned"] * 5 + ["rejected"] * 3
    assert [row["reason"] for row in rows[5:]] == ["truncated", "empty", "not_an_image"]
    run = runs(lake)["first"]
    assert (run["state"], run["found"], run["captioned"], run["rejected"]) == (
        "succeeded",
        8,
        5,
        3,
    )


def test_a_name_that_is_no_utf_8_is_captioned_beside_the_name_it_is_written_as(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for seed, name in enumerate((b"\xff.png", rb"\xff.png")):
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(photograph(seed))
    run_job(spark, tiny_package, **places(tmp_path))
    rows = captions(tmp_path / "lake")
    images = [hashlib.sha256(photograph(seed)).hexdigest() for seed in (1, 0)]
    assert [row["path"].rpartition("/")[2] for row in rows] == [r"\x5cxff.png", r"\xff.png"]
    assert [(row["status"], row["image_id"]) for row in rows] == [
        ("captioned", image) for image in images
    ]


def test_the_run_tells_where_its_time_went(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 60)
    run_job(spark, tiny_package, **places(tmp_path))
    (run,) = runs(tmp_path / "lake").values()
    seconds = dict(run["stage_seconds"])
    parts = sum(seconds.get(stage, 0.0) for stage in WORKER_STAGES)
    assert 0 < parts <= seconds["tasks"]
    measured = ("read", "decode", "encode", "generate", "write", "listing", "commit", "reconcile")
    assert all(seconds[stage] > 0 for stage in measured)


def test_each_row_holds_the_caption_and_hash_of_its_own_image(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    files = fill(tmp_path / "in", 20)
    run_job(
        spark,
        tiny_package,
        **places(tmp_path),
        chunk_files=7,
        inference_batch_images=4,
    )
    runtime = load_runtime(tiny_package, runtime="openvino", precision="float32")
    size = tiny_package.config.image_size
    for row, file in zip(captions(tmp_path / "lake"), files, strict=True):
        assert row["path"] == f"file:{file}"
        assert row["image_id"] == hashlib.sha256(file.read_bytes()).hexdigest()
        pixels = preprocess_image(file.read_bytes(), size=size).pixels
        assert pixels is not None
        (expected,) = runtime.caption(pixels[None])
        assert row["caption"] == expected.text
        assert row["score"] == pytest.approx(expected.score, abs=1e-6)


def test_a_rerun_opens_no_image(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    files = fill(tmp_path / "in", 3)
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    run_job(spark, tiny_package, run_id="one", **arguments)
    before = captions(tmp_path / "lake")
    for file in files:  # other bytes under the same size and time would show in the table
        status = file.stat()
        file.write_bytes(b"\0" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    run_job(spark, tiny_package, run_id="two", **arguments)
    assert captions(tmp_path / "lake") == before
    assert runs(tmp_path / "lake")["two"]["already_done"] == 3


def test_a_changed_file_is_captioned_again_in_its_row(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    files = fill(tmp_path / "in", 3)
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    run_job(spark, tiny_package, **arguments)
    files[1].write_bytes(photograph(1000))
    run_job(spark, tiny_package, run_id="later", **arguments)
    rows = captions(tmp_path / "lake")
    assert [row["run_id"] == "later" for row in rows] == [False, True, False]
    assert rows[1]["image_id"] == hashlib.sha256(photograph(1000)).hexdigest()


def test_equal_bytes_in_other_batches_and_runs_are_captioned_without_inference(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(tmp_path / "in" / "a", 2)
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    run_job(spark, tiny_package, **arguments)
    fill(tmp_path / "in" / "b", 2)
    capsys.readouterr()
    run_job(spark, tiny_package, **arguments)
    assert "0 inferences" in capsys.readouterr().out
    rows = captions(tmp_path / "lake")
    assert [row["caption"] for row in rows[:2]] == [row["caption"] for row in rows[2:]]
    assert rows[2]["width"] == rows[0]["width"]


def test_another_beam_captions_again_and_leaves_the_old_rows(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 2)
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    run_job(spark, tiny_package, **arguments)
    run_job(spark, tiny_package, beam_width=2, **arguments)
    rows = captions(tmp_path / "lake")
    assert len(rows) == 4
    assert len({row["pipeline_version"] for row in rows}) == 2


def test_a_run_that_already_succeeded_passes_at_once(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(tmp_path / "in", 1)
    arguments: dict[str, Any] = {
        **places(tmp_path),
        "run_id": "night",
        "summary_json": str(tmp_path / "summary.json"),
    }
    run_job(spark, tiny_package, **arguments)
    lost = (tmp_path / "summary.json").read_text()
    (tmp_path / "summary.json").unlink()
    fill(tmp_path / "in", 2)
    run_job(spark, tiny_package, **arguments)
    assert "already succeeded" in capsys.readouterr().out
    assert len(captions(tmp_path / "lake")) == 1
    assert figures_of(tmp_path / "summary.json") == json.loads(lost)


def test_a_run_that_succeeded_passes_though_its_input_is_archived(
    keep_session: None,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(tmp_path / "in", 1)

    def submit(run_id: str) -> None:
        chosen = CaptionSettings(
            model=str(tiny_package.directory), run_id=run_id, **places(tmp_path)
        )
        main(Resolved(chosen, load_environment("local"), {}), Stop())

    submit("night")
    (tmp_path / "in").rename(tmp_path / "archived")
    submit("night")
    assert "already succeeded" in capsys.readouterr().out
    with pytest.raises(InputError, match="There is no input"):
        submit("another-night")


def test_a_dry_run_writes_no_row(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(tmp_path / "in", 2)
    lake = tmp_path / "lake"
    run_job(spark, tiny_package, input=str(tmp_path / "in"), lake=str(lake), dry_run=True)
    assert "2 pending" in capsys.readouterr().out
    assert captions(lake) == []
    assert runs(lake) == {}


def test_a_dry_run_tells_the_time_from_an_earlier_run(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(tmp_path / "in", 2)
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    run_job(spark, tiny_package, **arguments, run_id="earlier")
    fill(tmp_path / "in", 3, first_seed=2)
    run_job(spark, tiny_package, **arguments, dry_run=True)
    told = capsys.readouterr().out
    assert "5 files found, 2 already done, 3 pending" in told
    assert "as in run earlier" in told


def test_a_run_stops_before_more_work_than_meant_and_tells_how_much_it_is(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(tmp_path / "in", 2)
    with pytest.raises(UsageError, match="2 images are pending"):
        run_job(spark, tiny_package, **places(tmp_path), max_pending=1)
    assert "2 files found, 0 already done, 2 pending" in capsys.readouterr().out
    assert captions(tmp_path / "lake") == []
    assert runs(tmp_path / "lake") == {}


def test_too_many_rejects_fail_the_run_after_committing(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 1)
    (tmp_path / "in" / "bad.jpg").write_text("no")
    with pytest.raises(RejectedShareError, match="1 of 2"):
        run_job(
            spark,
            tiny_package,
            **places(tmp_path),
            max_rejected_share=0.4,
            run_id="poor",
            summary_json=str(tmp_path / "summary.json"),
        )
    assert len(captions(tmp_path / "lake")) == 2
    assert runs(tmp_path / "lake")["poor"]["state"] == "failed"
    figures = figures_of(tmp_path / "summary.json")
    assert (figures["state"], figures["captioned"], figures["rejected"]) == ("failed", 1, 1)


def figures_of(summary: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(summary.read_text())
    return figures


def test_a_summary_that_cannot_be_written_fails_the_run(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 1)
    (tmp_path / "taken").touch()
    with pytest.raises(LakeError, match="--summary-json"):
        run_job(
            spark,
            tiny_package,
            **places(tmp_path),
            run_id="unheard",
            summary_json=str(tmp_path / "taken" / "summary.json"),
        )
    assert runs(tmp_path / "lake")["unheard"]["state"] == "failed"


def test_a_retry_of_a_run_answers_for_the_rows_of_its_first_try(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 1)
    (tmp_path / "in" / "bad.jpg").write_text("no")
    for _ in range(2):
        with pytest.raises(RejectedShareError, match="1 of 2"):
            run_job(
                spark,
                tiny_package,
                **places(tmp_path),
                max_rejected_share=0.4,
                run_id="poor",
            )
    run = runs(tmp_path / "lake")["poor"]
    assert (run["state"], run["captioned"], run["rejected"]) == ("failed", 1, 1)


def test_a_run_that_loses_a_row_fails_loudly(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 3)
    commit = commit_chunk

    def commit_all_but_one(lake: Lake, files: pa.Table, outcomes: pa.Table, *, stamp: Stamp) -> Any:
        return commit(lake, files.slice(1), outcomes.slice(1), stamp=stamp)

    monkeypatch.setattr("jobs.captioning.commit_chunk", commit_all_but_one)
    with pytest.raises(ReconciliationError, match="1 of 3"):
        run_job(
            spark,
            tiny_package,
            **places(tmp_path),
            chunk_files=100,
            run_id="lossy",
        )
    assert runs(tmp_path / "lake")["lossy"]["state"] == "failed"


def test_a_stopped_run_is_recorded_and_continued_by_the_next(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 12)
    arguments: dict[str, Any] = {
        **places(tmp_path),
        "chunk_files": 2,
    }
    stop = Stop()
    commit = commit_chunk

    def commit_then_stop(*values: Any, **named: Any) -> Any:
        result = commit(*values, **named)
        stop.ask()
        return result

    with monkeypatch.context() as patch:
        patch.setattr("jobs.captioning.commit_chunk", commit_then_stop)
        with pytest.raises(Terminated):
            run_job(spark, tiny_package, stop=stop, run_id="cut", **arguments)
    cut = captions(tmp_path / "lake")
    assert 0 < len(cut) < 12
    assert runs(tmp_path / "lake")["cut"]["state"] == "interrupted"
    run_job(spark, tiny_package, run_id="rest", **arguments)
    rows = captions(tmp_path / "lake")
    assert len(rows) == len({row["path"] for row in rows}) == 12
    assert runs(tmp_path / "lake")["rest"]["already_done"] == len(cut)


def test_a_file_that_vanishes_between_listing_and_reading_is_a_reject_to_try_again(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = fill(tmp_path / "in", 3)
    with monkeypatch.context() as patch:
        do_after_listing(patch, lambda: files[1].unlink(missing_ok=True))
        run_job(spark, tiny_package, **places(tmp_path))
    assert [row["reason"] for row in captions(tmp_path / "lake")] == [None, "vanished", None]


def test_when_all_files_have_vanished_nothing_is_rejected(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = fill(tmp_path / "in", 3)
    do_after_listing(monkeypatch, lambda: shutil.rmtree(files[0].parent))
    with pytest.raises(EnvironmentFault, match="storage is failing"):
        run_job(spark, tiny_package, **places(tmp_path))
    assert captions(tmp_path / "lake") == []


def test_one_file_that_stays_unreadable_is_tried_again_and_stops_no_run(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    file = tmp_path / "in" / "00000.png"
    file.parent.mkdir()
    file.symlink_to(file)  # a link that leads to itself can't be opened
    for tries in (1, 2):
        run_job(spark, tiny_package, **places(tmp_path), run_id=f"try-{tries}")
        (row,) = captions(tmp_path / "lake")
        assert (row["reason"], row["tries"]) == ("unreadable", tries)
    file.unlink()
    fill(file.parent, 1)
    run_job(spark, tiny_package, **places(tmp_path), run_id="healed")
    assert captions(tmp_path / "lake")[0]["status"] == "captioned"


def test_a_batch_may_have_a_name_longer_than_a_file_may(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    folder = tmp_path / "in" / ("a" * 100) / ("#" * 90) / ("c" * 100)
    fill(folder, 2)
    run_job(spark, tiny_package, run_id="night:" * 30 + "1", **places(tmp_path))
    assert [row["status"] for row in captions(tmp_path / "lake")] == ["captioned"] * 2
    batch = str(folder.relative_to(tmp_path))
    assert [row["batch"] for row in captions(tmp_path / "lake")] == [batch] * 2


def test_a_file_that_is_rewritten_between_listing_and_reading_is_a_reject_to_try_again(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = fill(tmp_path / "in", 4)
    longer = photograph(100) + b"a tail that no decoder minds"

    def rewrite() -> None:
        files[1].write_bytes(longer)
        os.utime(files[2], (0, 0))  # other bytes of the same size would show in the time

    with monkeypatch.context() as patch:
        do_after_listing(patch, rewrite)
        run_job(spark, tiny_package, **places(tmp_path))
    rows = captions(tmp_path / "lake")
    assert [row["reason"] for row in rows] == [None, "changed", "changed", None]
    assert [row["caption"] for row in rows[1:3]] == [None, None]
    run_job(spark, tiny_package, **places(tmp_path))
    rows = captions(tmp_path / "lake")
    assert [row["status"] for row in rows] == ["captioned"] * 4
    assert rows[1]["image_id"] == hashlib.sha256(longer).hexdigest()


def test_a_file_over_the_limit_is_rejected_with_its_size(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 1)
    (tmp_path / "in" / "large.png").write_bytes(bytes(10_001))
    run_job(spark, tiny_package, **places(tmp_path), max_file_bytes=10_000)
    small, large = captions(tmp_path / "lake")
    assert small["status"] == "captioned"
    assert (large["reason"], large["detail"]) == (
        "too_large",
        "10001 bytes, at most 10000 are read",
    )


def test_storage_that_fails_ends_the_run_and_rejects_nothing(
    spark: SparkSession,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "in", 3)
    infer = Inference.outcomes

    def all_unreadable(self: Inference, chunk: Chunk) -> pa.Table:
        table = infer(self, chunk)
        reason = table.schema.get_field_index("reason")
        detail = table.schema.get_field_index("detail")
        table = table.set_column(reason, "reason", [["unreadable"] * table.num_rows])
        return table.set_column(detail, "detail", [["Input/output error"] * table.num_rows])

    monkeypatch.setattr(Inference, "outcomes", all_unreadable)
    with pytest.raises(EnvironmentFault, match="storage is failing"):
        run_job(spark, tiny_package, **places(tmp_path))
    assert captions(tmp_path / "lake") == []


def test_wrong_input_and_lake_are_refused_before_anything_is_written(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="gone"):
        run_job(spark, tiny_package, input=str(tmp_path / "gone"), lake=str(tmp_path / "lake"))
    assert not (tmp_path / "lake").exists()
    fill(tmp_path / "in", 1)
    with pytest.raises(LakeError, match="in"):
        run_job(spark, tiny_package, input=str(tmp_path / "in"), lake=str(tmp_path / "in" / "lake"))
    assert not (tmp_path / "in" / "lake").exists()
