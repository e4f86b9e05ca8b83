"""The `runs` table and the views: one row per run, and the captions that are valid now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from storage.lake import Lake
from storage.runs import RunRecord, find_run, mark_interrupted, write_run
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


def test_an_unknown_run_is_none(lake: Lake) -> None:
    assert find_run(lake, "never") is None


def test_only_dead_running_runs_become_interrupted(lake: Lake) -> None:
    for run in (record("dead"), record("alive"), record("done", state="succeeded")):
        write_run(lake, run)
    assert mark_interrupted(lake, alive=["alive"]) == ["dead"]
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
