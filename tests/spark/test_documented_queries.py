"""What docs/tables.md says is so: its columns exist, and its queries run in both engines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from storage.lake import Lake
from storage.runs import RunRecord, write_run
from storage.schemas import CAPTIONS, EXCLUSIONS, RUNS
from storage.views import DUCKDB_VIEWS, create_views

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"\*\*([^*]+)\*\*\n\n```sql\n(.+?)\n```", PAGE, flags=re.DOTALL))
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROWS = [
    ("file:/in/2026-11-23/1.jpg", "aa", "captioned", None, "a dog runs", 0.9, "p1", 1),
    ("file:/in/2026-11-23/1.jpg", "aa", "captioned", None, "a brown dog runs", 0.8, "p2", 2),
    ("file:/in/2026-11-23/2.jpg", "aa", "captioned", None, "a brown dog runs", 0.8, "p2", 2),
    ("file:/in/2026-11-23/3.jpg", None, "rejected", "vanished", None, None, "p2", 2),
    ("file:/in/2026-11-23/4.jpg", "cc", "rejected", "empty", None, None, "p2", 2),
]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    names = ("path", "image_id", "status", "reason", "caption", "score", "pipeline_version")
    rows = [
        dict(zip(names, row[:7], strict=True))
        | {"batch": "2026-11-23", "captioned_at": NOON.replace(minute=row[7]), "tries": 1}
        for row in ROWS
    ]
    frame = lake.spark.createDataFrame(
        [[row.get(name) for name in CAPTIONS.names] for row in rows], CAPTIONS
    )
    frame.write.format("delta").mode("append").save(lake.captions_uri)
    for run_id, version, state in (
        ("r1", "p1", "succeeded"),
        ("r2", "p2", "succeeded"),
        ("r3", "p2", "failed"),
    ):
        run = RunRecord(
            *(run_id, "caption_images", "{}", "1", "m", version),
            started_at=NOON.replace(second=int(run_id[1])),
            ended_at=NOON.replace(minute=int(run_id[1])),
            state=state,  # type: ignore[arg-type]
            batches=("2026-11-23",),
        )
        write_run(lake, run)
    create_views(lake)
    return lake


@pytest.fixture
def database(filled: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    for table in ("captions", "runs"):
        folder = f"{filled.uri}/{table}".removeprefix("file:")
        connection.register(table, DeltaTable(folder).to_pyarrow_dataset())
    for statement in DUCKDB_VIEWS:
        connection.execute(statement)
    yield connection
    connection.close()


def test_every_documented_query_gives_the_same_rows_in_spark_and_in_duckdb(
    spark: SparkSession, filled: Lake, database: duckdb.DuckDBPyConnection
) -> None:
    assert len(QUERIES) == 10
    for name, query in QUERIES.items():
        by_duckdb = [tuple(map(comparable, row)) for row in database.sql(query).fetchall()]
        by_spark = [tuple(map(comparable, row)) for row in spark.sql(query).collect()]
        assert by_spark == by_duckdb, name
        assert by_spark, f"{name}: the example has no row"


def comparable(value: object) -> object:
    """Engines differ in decimals and time zones, not in what they mean."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return float(value) if isinstance(value, int | Decimal) else value


def test_every_column_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", PAGE))
    missing = [
        name for name in (*CAPTIONS.names, *RUNS.names, *EXCLUSIONS.names) if name not in documented
    ]
    assert missing == []
