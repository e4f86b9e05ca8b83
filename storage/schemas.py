"""Every table's columns, written once; what a reader of the lake may rely on."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

SCHEMA_VERSION = 3
SCHEMA_VERSION_PROPERTY = "captionlake.schema_version"
BATCH_DEPTH_PROPERTY = "captionlake.batch_depth"

_TEXT, _INT, _BIG, _REAL, _TIME = (
    StringType(),
    IntegerType(),
    LongType(),
    DoubleType(),
    TimestampType(),
)


def _column(name: str, kind: DataType, comment: str) -> StructField:
    return StructField(name, kind, nullable=True, metadata={"comment": comment})


CAPTIONS = StructType(
    [
        _column("path", _TEXT, "Fully qualified path of the file; key with pipeline_version"),
        _column("batch", _TEXT, "The file's folder below the lake's batch depth; partition"),
        _column("image_id", _TEXT, "SHA-256 of the bytes in hex; null if they were never read"),
        _column("file_size_bytes", _BIG, "Size as listed"),
        _column("mtime", _TIME, "Modification time as listed, UTC"),
        _column("width", _INT, "Pixels across, after EXIF orientation"),
        _column("height", _INT, "Pixels down, after EXIF orientation"),
        _column("format", _TEXT, "jpeg, png, webp, bmp, gif or tiff, told by the content"),
        _column("status", _TEXT, "captioned or rejected"),
        _column("reason", _TEXT, "Stable code of why the file was rejected"),
        _column("detail", _TEXT, "The reason in words, for people"),
        _column("caption", _TEXT, "The caption"),
        _column("score", _REAL, "exp of the mean log-probability per token, end included: 0 to 1"),
        _column("model_name", _TEXT, "Name of the model"),
        _column("model_version", _TEXT, "SHA-256 of the model package's manifest"),
        _column("pipeline_version", _TEXT, "Identity of model, preprocessing, decoding"),
        _column("run_id", _TEXT, "Run that wrote the row"),
        _column("captioned_at", _TIME, "When the row was committed, UTC"),
        _column("tries", _INT, "Tries of this state of the file at this version, from 1"),
    ]
)

RUNS = StructType(
    [
        _column("run_id", _TEXT, "Name of the run; key and partition"),
        _column("job", _TEXT, "Name of the job"),
        _column("arguments", _TEXT, "The settings as JSON, secrets taken out"),
        _column("code_version", _TEXT, "Version of this software"),
        _column("model_version", _TEXT, "SHA-256 of the model package's manifest"),
        _column("pipeline_version", _TEXT, "As in captions"),
        _column("started_at", _TIME, "UTC"),
        _column("ended_at", _TIME, "UTC; null while it runs"),
        _column("state", _TEXT, "running, succeeded, failed or interrupted"),
        _column("found", _BIG, "Files listed"),
        _column("already_done", _BIG, "Files with a fresh row of an earlier or another run"),
        _column("captioned", _BIG, "Files that this run captioned"),
        _column("rejected", _BIG, "Files that this run rejected"),
        _column("excluded", _BIG, "Files left out on request"),
        _column("claimed_elsewhere", _BIG, "Files left to another live run"),
        _column("reasons", MapType(_TEXT, _BIG), "Rejected files per reason"),
        _column("stage_seconds", MapType(_TEXT, _REAL), "Worker-seconds or wall seconds per stage"),
        _column("images_per_second", _REAL, "Images per second from ready session to reconciled"),
        _column("batches", ArrayType(_TEXT), "Batches that the run covered, for captions_latest"),
    ]
)

EXCLUSIONS = StructType(
    [
        _column("kind", _TEXT, "path or image: what the digest was made of"),
        _column("digest", _TEXT, "SHA-256, so that the list doesn't name what was withdrawn; key"),
        _column("excluded_at", _TIME, "UTC"),
        _column("run_id", _TEXT, "Run of maintain_tables that put it on the list"),
    ]
)

UNTOLD = frozenset({"path", "batch", "image_id", "detail", "caption", "arguments", "digest"})
"""Columns that Delta's log keeps no smallest and largest value of: a deleted photograph would live
on in it. (Of long texts it keeps 32 characters, which tell no path from another.)"""

LISTING = pa.schema(
    [
        ("path", pa.string()),
        ("file_size_bytes", pa.int64()),
        ("mtime", pa.timestamp("us", "UTC")),
    ]
)
"""Files as listed, sorted by path; each path once."""

PENDING = pa.schema(
    [
        *LISTING,
        ("batch", pa.string()),
        ("tries", pa.int32()),
        ("replaces_at", pa.timestamp("us", "UTC")),
        ("as_of_version", pa.int64()),
    ]
)
"""Files to caption. `tries`: earlier tries of this very state of the file, 0 if none.
`replaces_at`: `captioned_at` of the stale row that the new one replaces; null if there is none.
`as_of_version`: version of the table `captions` in which this was so."""

OUTCOMES = pa.schema(
    [
        ("path", pa.string()),
        ("image_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("caption", pa.string()),
        ("score", pa.float64()),
    ]
)
"""What a run found out about each file of a chunk; storage adds the rest of the row."""
