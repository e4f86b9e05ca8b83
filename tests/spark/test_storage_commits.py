"""Pending, commit and reconcile: one row per key, whoever commits when."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as IndependentReader

from conf.errors import LakeError, ReconciliationError
from storage import delta_log
from storage.captions import (
    CommitResult,
    Stamp,
    captions_of,
    commit_chunk,
    find_pending,
    known_image_prefixes,
    reconcile,
)
from storage.commits import complete_rows
from storage.lake import Lake
from storage.schemas import LISTING, OUTCOMES

NIGHT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
STAMP = Stamp("night", "tiny", "f" * 64, "0123456789abcdef")
TRANSIENT = ["vanished", "unreadable"]


def listing(*names: str, size: int = 10, mtime: datetime = NIGHT) -> pa.Table:
    rows = [
        {"path": f"file:/landing/{name}", "file_size_bytes": size, "mtime": mtime}
        for name in sorted(names)
    ]
    return pa.Table.from_pylist(rows, schema=LISTING)


def captioned(files: pa.Table, **columns: Any) -> pa.Table:
    """One outcome per file, in the reverse of the files' order."""
    shared = {"status": "captioned", "caption": "a dog", "score": 0.5, "image_id": "ab" * 32}
    rows = [shared | {"path": path} | columns for path in files["path"].to_pylist()]
    return pa.Table.from_pylist(rows[::-1], schema=OUTCOMES)


def rejected(files: pa.Table, reason: str) -> pa.Table:
    return captioned(
        files, status="rejected", reason=reason, caption=None, score=None, image_id=None
    )


def pending(lake: Lake, files: pa.Table, *, retry_limit: int = 3, version: str = "") -> pa.Table:
    return find_pending(
        lake,
        files,
        pipeline_version=version or STAMP.pipeline_version,
        retry_limit=retry_limit,
        transient_reasons=TRANSIENT,
    )


def names(files: pa.Table) -> list[str]:
    return [path.rpartition("/")[2] for path in files["path"].to_pylist()]


def rows(lake: Lake) -> list[dict[str, Any]]:
    """The table as an independent reader sees it."""
    table = IndependentReader(lake.captions_uri.removeprefix("file:")).to_pyarrow_table()
    return list(table.sort_by([("path", "ascending"), ("captioned_at", "ascending")]).to_pylist())


def commit_all(lake: Lake, files: pa.Table, stamp: Stamp = STAMP, **columns: Any) -> CommitResult:
    waiting = pending(lake, files, version=stamp.pipeline_version)
    return commit_chunk(lake, waiting, captioned(waiting, **columns), stamp=stamp)


def another(lake: Lake) -> Lake:
    """The lake as another process has it open."""
    return Lake(lake.spark, lake.uri, lake.batch_depth)


def test_a_chunk_of_several_batches_is_committed_once_and_leaves_nothing_pending(
    lake: Lake,
) -> None:
    files = listing("a/1", "a/2", "b/3")
    assert commit_all(lake, files) == CommitResult(3, 0, 0)
    assert [(row["path"], row["batch"], row["tries"]) for row in rows(lake)] == [
        ("file:/landing/a/1", "a", 1),
        ("file:/landing/a/2", "a", 1),
        ("file:/landing/b/3", "b", 1),
    ]
    assert pending(lake, files).num_rows == 0


def test_the_commits_of_a_run_make_no_checkpoint_and_every_reader_finds_their_rows(
    lake: Lake,
) -> None:
    files = listing(*[f"a/{number:02d}" for number in range(12)])
    waiting = pending(lake, files)
    for number in range(waiting.num_rows):
        chunk = waiting.slice(number, 1)
        commit_chunk(lake, chunk, captioned(chunk), stamp=STAMP)
    log = Path(lake.captions_uri.removeprefix("file:")) / "_delta_log"
    assert len(list(log.glob("*.json"))) > 12
    assert not list(log.glob("*checkpoint*"))
    paths = files["path"].to_pylist()
    assert [row["path"] for row in rows(lake)] == paths
    assert sorted(row.path for row in lake.captions().collect()) == paths
    assert pending(another(lake), files).num_rows == 0


def test_excluded_paths_are_never_pending_and_counted_as_excluded(lake: Lake) -> None:
    files = listing("a/1", "a/2")
    excluded = files["path"].to_pylist()
    for left_out in (excluded[:1], excluded):
        waiting = find_pending(
            lake,
            files,
            pipeline_version=STAMP.pipeline_version,
            retry_limit=3,
            transient_reasons=TRANSIENT,
            excluded=left_out,
        )
        assert waiting["path"].to_pylist() == [path for path in excluded if path not in left_out]
    commit_all(lake, listing("a/2"))
    counts = reconcile(lake, files, stamp=STAMP, excluded=excluded)
    assert (counts.found, counts.captioned, counts.excluded, counts.holds) == (2, 1, 1, True)


def test_each_outcome_lands_on_its_own_path(lake: Lake) -> None:
    waiting = pending(lake, listing("a/1", "a/2", "a/3"))
    captions = pa.array([f"caption of {path}" for path in waiting["path"].to_pylist()][::-1])
    outcomes = captioned(waiting).set_column(8, "caption", captions)
    commit_chunk(lake, waiting, outcomes, stamp=STAMP)
    assert all(row["caption"] == f"caption of {row['path']}" for row in rows(lake))


def test_hostile_text_stays_text(lake: Lake) -> None:
    name = "x' OR '1'='1/\n{y} %2F \\ \"é日\" -- ;/a'b`c.jpg"
    commit_all(lake, listing(name), caption="'); DROP TABLE captions; --")
    (row,) = rows(lake)
    assert row["path"] == f"file:/landing/{name}"
    assert row["batch"] == name.rpartition("/")[0]
    assert row["caption"] == "'); DROP TABLE captions; --"
    assert pending(lake, listing(name)).num_rows == 0
    commit_all(lake, listing(name, size=11))
    assert [row["file_size_bytes"] for row in rows(lake)] == [11]


def test_a_chunk_that_lost_doubled_or_changed_a_path_is_refused(lake: Lake) -> None:
    waiting = pending(lake, listing("a/1", "a/2"))
    whole = captioned(waiting)
    doubled = pa.concat_tables([whole, whole.slice(0, 1)])
    for wrong in (whole.slice(1), doubled, captioned(listing("a/1", "a/9"))):
        with pytest.raises(ReconciliationError):
            commit_chunk(lake, waiting, wrong, stamp=STAMP)
    assert rows(lake) == []


@pytest.mark.parametrize(
    "change", [{"size": 11}, {"mtime": NIGHT + timedelta(1)}, {"mtime": NIGHT - timedelta(1)}]
)
def test_a_changed_file_is_pending_and_its_row_is_replaced(
    lake: Lake, change: dict[str, Any]
) -> None:
    commit_all(lake, listing("a/1", "a/2"))
    changed = listing("a/2", **change)
    assert names(pending(lake, changed)) == ["2"]
    assert commit_all(lake, changed, caption="another") == CommitResult(0, 1, 0)
    assert [row["caption"] for row in rows(lake)] == ["a dog", "another"]
    assert pending(lake, changed).num_rows == 0


def test_new_and_changed_files_go_in_one_commit(lake: Lake) -> None:
    commit_all(lake, listing("a/1"))
    assert commit_all(lake, listing("a/1", "a/2", size=99)) == CommitResult(1, 1, 0)
    versions = IndependentReader(lake.captions_uri.removeprefix("file:")).version()
    assert versions == 2  # created, committed, committed


def test_transient_rejects_are_tried_again_up_to_the_limit(lake: Lake) -> None:
    files = listing("a/1")
    for tries in (1, 2, 3):
        waiting = pending(lake, files, retry_limit=2)
        assert waiting["tries"].to_pylist() == [tries - 1]
        commit_chunk(lake, waiting, rejected(waiting, "vanished"), stamp=STAMP)
        assert [row["tries"] for row in rows(lake)] == [tries]
    assert pending(lake, files, retry_limit=2).num_rows == 0
    changed = pending(lake, listing("a/1", size=11), retry_limit=2)
    assert changed["tries"].to_pylist() == [0]


def test_a_permanent_reject_is_final(lake: Lake) -> None:
    waiting = pending(lake, listing("a/1"))
    commit_chunk(lake, waiting, rejected(waiting, "not_an_image"), stamp=STAMP)
    assert pending(lake, listing("a/1")).num_rows == 0


def test_another_pipeline_version_is_pending_again_and_keeps_the_old_rows(lake: Lake) -> None:
    commit_all(lake, listing("a/1"))
    other = Stamp("next", "tiny", "e" * 64, "fedcba9876543210")
    assert commit_all(lake, listing("a/1"), other) == CommitResult(1, 0, 0)
    assert [row["pipeline_version"] for row in rows(lake)] == [
        STAMP.pipeline_version,
        other.pipeline_version,
    ]


def test_chunks_of_one_run_are_appended_without_a_merge(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = pending(lake, listing(*(f"a/{n}" for n in range(6))))
    monkeypatch.setattr("storage.commits._merge", None)
    for start in range(0, 6, 2):
        chunk = waiting.slice(start, 2)
        assert commit_chunk(lake, chunk, captioned(chunk), stamp=STAMP) == CommitResult(2, 0, 0)
    assert len(rows(lake)) == 6


def test_commits_of_others_in_other_batches_need_no_merge(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = pending(lake, listing("a/1"))
    commit_all(another(lake), listing("b/1"))
    monkeypatch.setattr("storage.commits._merge", None)
    assert commit_chunk(lake, waiting, captioned(waiting), stamp=STAMP) == CommitResult(1, 0, 0)


def test_a_chunk_committed_twice_is_there_once(lake: Lake) -> None:
    waiting = pending(lake, listing("a/1", "a/2"))
    commit_chunk(lake, waiting, captioned(waiting), stamp=STAMP)
    again = commit_chunk(lake, waiting, captioned(waiting, caption="second"), stamp=STAMP)
    assert again == CommitResult(0, 0, 2)
    assert [row["caption"] for row in rows(lake)] == ["a dog", "a dog"]


def test_rows_that_another_run_added_meanwhile_stay(lake: Lake) -> None:
    waiting = pending(lake, listing("a/1", "a/2"))
    commit_all(another(lake), listing("a/2"), caption="first")
    assert commit_chunk(lake, waiting, captioned(waiting), stamp=STAMP) == CommitResult(1, 0, 1)
    assert [row["caption"] for row in rows(lake)] == ["a dog", "first"]


def test_a_slower_run_does_not_undo_a_later_state_of_a_file(lake: Lake) -> None:
    older = pending(lake, listing("a/1"))
    newer = listing("a/1", mtime=NIGHT + timedelta(minutes=1))
    commit_all(another(lake), newer, caption="newer")
    assert commit_chunk(lake, older, captioned(older), stamp=STAMP) == CommitResult(0, 0, 1)
    assert [row["caption"] for row in rows(lake)] == ["newer"]
    assert reconcile(lake, listing("a/1"), stamp=STAMP).already_done == 1


def test_a_later_state_of_a_file_replaces_what_a_slower_run_left(lake: Lake) -> None:
    newer = pending(lake, listing("a/1", mtime=NIGHT + timedelta(minutes=1)))
    commit_all(another(lake), listing("a/1"), caption="older")
    assert commit_chunk(lake, newer, captioned(newer), stamp=STAMP) == CommitResult(0, 1, 0)


def test_a_caption_replaces_a_reject_of_the_same_state_and_never_the_reverse(lake: Lake) -> None:
    waiting = pending(lake, listing("a/1"))
    other = another(lake)
    commit_chunk(other, waiting, rejected(waiting, "unreadable"), stamp=STAMP)
    assert commit_chunk(lake, waiting, captioned(waiting), stamp=STAMP) == CommitResult(0, 1, 0)
    third = another(lake)
    assert commit_chunk(third, waiting, rejected(waiting, "unreadable"), stamp=STAMP) == (0, 0, 1)


def at_once(*commits: Callable[[], CommitResult]) -> list[CommitResult]:
    """Run the commits in threads that start together."""
    start = Barrier(len(commits))

    def run(commit: Callable[[], CommitResult]) -> CommitResult:
        start.wait()
        return commit()

    with ThreadPoolExecutor(len(commits)) as pool:
        return list(pool.map(run, commits))


def test_writers_of_the_same_keys_at_once_double_nothing(lake: Lake) -> None:
    waiting = pending(lake, listing(*(f"a/{n}" for n in range(9))))

    def commit(writer: int) -> Callable[[], CommitResult]:
        own = another(lake)
        stamp = Stamp(f"writer-{writer}", "tiny", "f" * 64, STAMP.pipeline_version)
        return lambda: commit_chunk(own, waiting, captioned(waiting), stamp=stamp)

    results = at_once(*map(commit, range(3)))
    assert sum(result.inserted for result in results) == 9
    assert sum(result.already_there for result in results) == 18
    assert len({row["path"] for row in rows(lake)}) == len(rows(lake)) == 9


def test_writers_of_other_batches_at_once_all_append(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.commits._merge", None)

    def commit(writer: int) -> Callable[[], CommitResult]:
        own = another(lake)
        waiting = pending(own, listing(f"{writer}/1", f"{writer}/2"))
        return lambda: commit_chunk(own, waiting, captioned(waiting), stamp=STAMP)

    assert at_once(*map(commit, range(3))) == [CommitResult(2, 0, 0)] * 3
    assert len(rows(lake)) == 6


def test_a_foreign_append_between_look_and_commit_is_noticed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = pending(lake, listing("a/1"))
    commit_staged = delta_log.commit_staged

    def commit_after_another(*values: Any, may_follow: Callable[[int], bool]) -> int | None:
        def look_then_lose(version: int) -> bool:
            answer = may_follow(version)
            monkeypatch.setattr("storage.commits.commit_staged", commit_staged)
            foreign = complete_rows(waiting, captioned(waiting), STAMP)
            frame = lake.spark.createDataFrame(foreign.drop_columns("replaces_at"))
            frame.write.format("delta").mode("append").save(lake.captions_uri)
            return answer

        return commit_staged(*values, may_follow=look_then_lose)

    monkeypatch.setattr("storage.commits.commit_staged", commit_after_another)
    assert commit_chunk(lake, waiting, captioned(waiting), stamp=STAMP) == CommitResult(0, 0, 1)
    assert len(rows(lake)) == 1


def test_conflicts_without_end_become_a_lake_error(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = pending(lake, listing("a/1"))
    monkeypatch.setattr("storage.commits.MOST_TRIES", 2)
    monkeypatch.setattr("storage.commits.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("storage.commits.is_conflict", lambda _: True)

    def fail(*_: Any, **__: Any) -> None:
        lake.spark.sql("SELECT raise_error('taken')").collect()

    monkeypatch.setattr("storage.commits.commit_staged", fail)
    with pytest.raises(LakeError, match="taken") as error:
        commit_chunk(lake, waiting, captioned(waiting), stamp=STAMP)
    assert "\n" not in str(error.value)


def test_every_listed_file_is_accounted_for_by_its_row(lake: Lake) -> None:
    commit_all(lake, listing("a/old"), Stamp("before", "tiny", "f" * 64, STAMP.pipeline_version))
    waiting = pending(lake, listing("a/good", "b/bad"))
    good, bad = waiting.slice(0, 1), waiting.slice(1, 1)
    commit_chunk(lake, good, captioned(good), stamp=STAMP)
    commit_chunk(lake, bad, rejected(bad, "truncated"), stamp=STAMP)
    files = listing("a/old", "a/good", "b/bad", "b/left", "c/theirs", "c/lost")
    counts = reconcile(
        lake,
        files,
        stamp=STAMP,
        excluded=["file:/landing/b/left"],
        claimed_elsewhere=["file:/landing/c/theirs"],
    )
    assert counts[:7] == (6, 1, 1, 1, 1, 1, 1)
    assert counts.first_missing == ("file:/landing/c/lost",)
    assert counts.reasons == {"truncated": 1}
    assert not counts.holds


def test_a_row_of_an_earlier_state_accounts_for_nothing(lake: Lake) -> None:
    commit_all(lake, listing("a/1"))
    assert reconcile(lake, listing("a/1", size=11), stamp=STAMP).missing == 1


def test_a_file_with_two_rows_is_found_twice(lake: Lake) -> None:
    files = listing("a/1", "a/2")
    commit_all(lake, files)
    lake.captions().limit(1).write.format("delta").mode("append").save(lake.captions_uri)
    assert reconcile(lake, files, stamp=STAMP).found == 3


def test_captioned_images_are_known_by_their_id(lake: Lake) -> None:
    high, low, bad = "f" * 64, "0" * 15 + "7" + "a" * 48, "1" * 64
    for name, image_id in (("a/1", high), ("a/2", low), ("b/3", high)):
        commit_all(lake, listing(name), image_id=image_id, caption=f"{image_id[:1]}", width=7)
    waiting = pending(lake, listing("c/4"))
    outcome = captioned(waiting, status="rejected", reason="corrupt", image_id=bad)
    commit_chunk(lake, waiting, outcome, stamp=STAMP)
    known = known_image_prefixes(lake, pipeline_version=STAMP.pipeline_version)
    assert known.tolist() == [7, 2**64 - 1]
    found = captions_of(lake, [high, low, bad], pipeline_version=STAMP.pipeline_version)
    assert sorted((row["image_id"], row["caption"], row["width"]) for row in found.to_pylist()) == [
        (low, "0", 7),
        (high, "f", 7),
    ]
    assert captions_of(lake, [], pipeline_version=STAMP.pipeline_version).num_rows == 0
    assert known_image_prefixes(lake, pipeline_version="none").tolist() == []
