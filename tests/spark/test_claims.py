"""Claims: what a run does where another live run works on the same batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from conf.errors import ClaimedElsewhereError
from conf.settings import OnClaimed
from jobs.claiming import Settled, settle
from jobs.stopping import Stop, Terminated
from models.package import ModelPackage
from storage import claims as claims_module
from storage.claims import Claims
from storage.lake import Lake, open_lake
from tests.captioning import captions, fill, run_job, runs


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, f"file:{tmp_path}/lake", batch_depth=1)


PENDING = pa.table({"path": ["a/1", "b/1"], "batch": ["a", "b"]})


def settled(
    claims: Claims, claim: claims_module.Claim, how: OnClaimed, stop: Stop | None = None
) -> Settled:
    return settle(
        claims,
        claim,
        PENDING,
        on_claimed=how,
        stop=stop or Stop(),
        find_pending=lambda: PENDING.slice(1),
    )


def test_the_earlier_of_two_claims_on_a_batch_has_precedence(lake: Lake) -> None:
    first, second = Claims(lake, "z:first"), Claims(lake, "a+second")
    with first.hold(["a"]) as early, second.hold(["a", "b"]) as late:
        assert first.before(early) == []
        assert [claim.run_id for claim in second.before(late)] == ["z:first"]
        assert first.live_runs() == {"z:first", "a+second"}
    assert first.live_runs() == set()


def test_which_came_first_is_told_by_the_file_systems_clock(lake: Lake, tmp_path: Path) -> None:
    first, second = Claims(lake, "first"), Claims(lake, "second")
    with first.hold(["a"]) as early, second.hold(["a"]) as late:
        assert first.before(early) == []
        # Its clock, were it asked, could say anything: the file says when it was written.
        file = next((tmp_path / "lake" / "_captionlake" / "claims").glob("second*.json"))
        os.utime(file, (early.written_ms / 1000 - 10,) * 2)
        assert [claim.run_id for claim in first.before(early)] == ["second"]
        file.write_text('{"batches": ["a"')
        assert first.before(early) == []
        assert second.before(late) == [early]


def test_one_run_id_that_was_started_twice_meets_itself(lake: Lake) -> None:
    first, twin = Claims(lake, "night"), Claims(lake, "night")
    with first.hold(["a"]), twin.hold(["a"]) as late:
        assert [claim.run_id for claim in twin.before(late)] == ["night"]
        assert twin.live_runs() == {"night"}


def test_claims_on_other_batches_are_no_matter(lake: Lake) -> None:
    first, second = Claims(lake, "first"), Claims(lake, "second")
    with first.hold(["a"]), second.hold(["b"]) as late:
        assert second.before(late) == []


def test_a_claim_without_signs_of_life_expires(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "BEAT_SECONDS", 0.2)
    dead, live = Claims(lake, "dead"), Claims(lake, "live", expiry_seconds=4.0)
    dead._beat()
    with live.hold(["a"]) as claim:
        while "dead" in live.live_runs():
            pass
        assert live.live_runs() == {"live"}
        assert live.before(claim) == []


def test_skip_leaves_the_claimed_batches_and_fail_refuses_them(lake: Lake) -> None:
    first, second = Claims(lake, "first"), Claims(lake, "second")
    with first.hold(["a"]), second.hold(["a", "b"]) as late:
        left = settled(second, late, "skip")
        assert left.pending.column("path").to_pylist() == ["b/1"]
        assert left.elsewhere == ["a/1"]
        with pytest.raises(ClaimedElsewhereError, match="first"):
            settled(second, late, "fail")


def test_wait_ends_with_the_other_run_and_looks_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Claims(lake, "first"), Claims(lake, "second")
    monkeypatch.setattr("jobs.claiming.POLL_SECONDS", 0.05)
    with second.hold(["a", "b"]) as claim:
        earlier = claims_module.Claim(0, "first~1", frozenset("a"))
        answers = iter([[earlier], [earlier], []])
        monkeypatch.setattr(second, "before", lambda _: next(answers))
        assert settled(second, claim, "wait").pending.num_rows == 1
    assert first.live_runs() == set()


def test_a_waiting_run_can_be_stopped(lake: Lake) -> None:
    first, second = Claims(lake, "first"), Claims(lake, "second")
    stop = Stop()
    stop.ask()
    with first.hold(["a"]), second.hold(["a"]) as late, pytest.raises(Terminated):
        settled(second, late, "wait", stop)


def test_a_run_that_skips_fails_and_says_how_many_files_it_left(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in" / "a", 2)
    fill(tmp_path / "in" / "b", 1, first_seed=10)
    depth = len(tmp_path.parts)  # batches "a" and "b" below in/
    lake = open_lake(spark, f"file:{tmp_path}/lake", batch_depth=depth)
    arguments: dict[str, Any] = {"input": str(tmp_path / "in"), "lake": str(tmp_path / "lake")}
    with (
        Claims(lake, "other").hold(["a"]),
        pytest.raises(ClaimedElsewhereError, match="2 files"),
    ):
        run_job(spark, tiny_package, run_id="skipping", on_claimed="skip", **arguments)
    row = runs(tmp_path / "lake")["skipping"]
    assert (row["state"], row["claimed_elsewhere"], row["captioned"]) == ("failed", 2, 1)
    run_job(spark, tiny_package, run_id="later", **arguments)
    assert len(captions(tmp_path / "lake")) == 3


def test_only_claims_without_life_for_a_day_are_swept(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "_captionlake" / "claims"
    with Claims(lake, "own").hold(["a"]):
        now = (folder / next(folder.glob("*.beat")).name).stat().st_mtime
        for name, hours in (("yesterday", 30), ("hours-ago", 5)):
            for suffix in (".beat", ".json"):
                (folder / f"{name}~1{suffix}").write_text("{}")
                os.utime(folder / f"{name}~1{suffix}", (now - 3600 * hours,) * 2)
        # Written long ago, and alive: a long run's claim is written once.
        own = next(folder.glob("own*.json"))
        os.utime(own, (now - 3600 * 40,) * 2)
        Claims(lake, "maintenance").remove_abandoned()
        left = {file.name.partition("~")[0] for file in folder.glob("[!.]*")}
        assert left == {"own", "hours-ago"}
        assert own.exists()
