"""The `runs` table and the views: one row per run, and the captions that are valid now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from storage.delta_log import table_version
from storage.lake import Lake
from storage.runs import Beginning, RunRecord, find_run, look_up, mark_interrupted, write_run
from storage.views import DUCKDB_VIEWS, create_views

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def record(run_id: str, **values: object) -> RunRecord:
    return RunRecord(run_id, "caption_images", "{}", "1", "m", "p1", NOON, **values)  # type: ignore[arg-type]


def test_a_run_has_one_row_from_begin_to_end(lake: Lake) -> None:
    write_run(lake, record("a"))
    write_run(lake, record("b"))
    ended = record(
        "a", state="succeeded", ended_at=NOON, reasons={"empty": 2}, stage_seconds={"read": 1.5}
    )
    write_run(lake, ended)
    assert find_run(lake, "a") == ended
    assert lake.runs().count() == 2


def test_a_run_that_looked_first_replaces_its_row_without_a_search(lake: Lake) -> None:
    write_run(lake, record("earlier"))
    before = table_version(lake.spark, lake.runs_uri)
    standing = look_up(lake, "a").standing
    write_run(lake, record("meanwhile"))
    standing = write_run(lake, record("a"), standing=standing)
    write_run(lake, record("meanwhile", state="failed"))
    ended = record("a", state="succeeded")
    assert write_run(lake, ended, standing=standing) is not None
    assert find_run(lake, "a") == ended
    states = {row.run_id: row.state for row in lake.runs().collect()}
    assert states == {"earlier": "running", "meanwhile": "failed", "a": "succeeded"}
    assert table_version(lake.spark, lake.runs_uri) == before + 4


@pytest.mark.parametrize("touch", ["another process", "maintenance"])
def test_a_row_that_others_touched_is_searched_for(lake: Lake, touch: str) -> None:
    standing = write_run(lake, record("a"), standing=look_up(lake, "a").standing)
    assert standing is not None
    if touch == "maintenance":
        lake.spark.sql(f"ALTER TABLE delta.`{lake.runs_uri}` SET TBLPROPERTIES ('x' = 'y')")
    else:
        mark_interrupted(lake, ["a"])
    ended = record("a", state="succeeded")
    assert write_run(lake, ended, standing=standing) is None
    assert find_run(lake, "a") == ended
    assert lake.runs().count() == 1


def test_two_processes_that_begin_one_run_leave_one_row(lake: Lake) -> None:
    both = [look_up(lake, "a").standing for _ in range(2)]
    for standing in both:
        write_run(lake, record("a"), standing=standing)
    assert lake.runs().count() == 1


def test_a_run_finds_its_earlier_row_and_who_else_runs(lake: Lake) -> None:
    for run in (record("mine", state="failed"), record("other"), record("done", state="succeeded")):
        write_run(lake, run)
    found = look_up(lake, "mine")
    assert found == Beginning(record("mine", state="failed"), frozenset({"other"}), None)


def test_an_unknown_run_is_none(lake: Lake) -> None:
    assert find_run(lake, "never") is None


def test_only_dead_running_runs_become_interrupted(lake: Lake) -> None:
    for run in (record("dead"), record("alive"), record("done", state="succeeded")):
        write_run(lake, run)
    assert mark_interrupted(lake, {"dead", "done", "never"}) == ["dead"]
    states = {row.run_id: row.state for row in lake.runs().collect()}
    assert states == {"dead": "interrupted", "alive": "running", "done": "succeeded"}


def test_a_run_id_with_sql_in_it_is_refused() -> None:
    with pytest.raises(ValueError, match="run id"):
        record("x' OR '1'='1")


def test_the_latest_captions_follow_the_last_succeeded_run_of_their_batch(
    lake: Lake, tmp_path: Path
) -> None:
    rows = [
        ("file:/a/1", "a", "p1", "captioned", None, "old"),
        ("file:/a/1", "a", "p2", "captioned", None, "new"),
        ("file:/b/1", "b", "p1", "rejected", "empty", None),
        ("file:/b/1", "b", "p2", "captioned", None, "not yet valid"),
    ]
    columns = ["path", "batch", "pipeline_version", "status", "reason", "caption"]
    lake.spark.createDataFrame(
        rows,
        "path string, batch string, pipeline_version string, status string, reason string,"
        " caption string",
    ).select(*columns).write.format("delta").mode("append").save(lake.captions_uri)
    first, later = NOON, NOON.replace(hour=13)
    for run in (
        RunRecord(
            "r1",
            "caption_images",
            "{}",
            "1",
            "m",
            "p1",
            first,
            first,
            "succeeded",
            batches=("a", "b"),
        ),
        RunRecord(
            "r2", "caption_images", "{}", "1", "m", "p2", later, later, "succeeded", batches=("a",)
        ),
        RunRecord(
            "r3", "caption_images", "{}", "1", "m", "p2", later, later, "failed", batches=("b",)
        ),
    ):
        write_run(lake, run)
    create_views(lake)
    latest = "SELECT path, pipeline_version, caption FROM captions_latest ORDER BY path"
    rejects = "SELECT batch, reason, files FROM rejects_by_reason"
    expected = [("file:/a/1", "p2", "new"), ("file:/b/1", "p1", None)]
    assert [tuple(row) for row in lake.spark.sql(latest).collect()] == expected
    assert [tuple(row) for row in lake.spark.sql(rejects).collect()] == [("b", "empty", 1)]
    database = duckdb.connect()
    for table in ("captions", "runs"):
        dataset = DeltaTable(str(tmp_path / "lake" / table)).to_pyarrow_dataset()
        database.register(table, dataset)
    for statement in DUCKDB_VIEWS:
        database.execute(statement)
    assert database.sql(latest).fetchall() == expected
    assert database.sql(rejects).fetchall() == [("b", "empty", 1)]
