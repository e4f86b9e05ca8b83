"""A writer of its own process: commits the same keys as another, chunk by chunk."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from storage.captions import CommitResult, Stamp, commit_chunk, find_pending
from storage.lake import Lake
from storage.schemas import LISTING, OUTCOMES

CHUNKS, CHUNK_FILES = 5, 4
WRITERS = ("here", "there")
NIGHT = datetime(2026, 11, 23, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


def commit_all(lake: Lake, writer: str, meeting: Path) -> list[CommitResult]:
    """Find all files pending, wait until both writers have, and commit them chunk by chunk."""
    stamp = Stamp(writer, "tiny", "m", "p")
    first = _pending(lake, _listing(f"warm/{writer}"))  # a first commit takes seconds longer
    commit_chunk(lake, first, _captioned(first, writer), stamp=stamp)
    waiting = _pending(lake, _listing(*(f"in/{n:03d}" for n in range(CHUNKS * CHUNK_FILES))))
    (meeting / writer).touch()
    while not all((meeting / one).exists() for one in WRITERS):
        time.sleep(0.01)
    chunks = [waiting.slice(at, CHUNK_FILES) for at in range(0, waiting.num_rows, CHUNK_FILES)]
    ordered = chunks if writer == WRITERS[0] else chunks[::-1]  # so that both win some
    return [commit_chunk(lake, files, _captioned(files, writer), stamp=stamp) for files in ordered]


def _listing(*names: str) -> pa.Table:
    rows = [{"path": f"hdfs://h:1/{name}", "file_size_bytes": 1, "mtime": NIGHT} for name in names]
    return pa.Table.from_pylist(rows, schema=LISTING)


def _pending(lake: Lake, listing: pa.Table) -> pa.Table:
    return find_pending(
        lake, listing, pipeline_version="p", retry_limit=3, transient_reasons=["vanished"]
    )


def _captioned(files: pa.Table, writer: str) -> pa.Table:
    rows = [
        {"path": path, "image_id": "ab" * 32, "status": "captioned", "caption": writer, "score": 1}
        for path in files["path"].to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOMES)


def main(lake_uri: str, writer: str, meeting: str) -> None:
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    jars = ",".join(str(jar) for jar in sorted((ROOT / "jars").glob("*.jar")))
    for name, value in {
        "spark.jars": jars,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
    }.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    print(commit_all(Lake(spark, lake_uri, batch_depth=0), writer, Path(meeting)))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
