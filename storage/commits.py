"""Committing a chunk: atomic, never doubling a key, and nearly always as cheap as an append.

The rows are staged as data files. If nothing that was committed since the files were found pending
can hold their keys, the staged files are committed as they are. Otherwise, and where rows replace
older ones, the chunk is merged. Either way Delta refuses the commit if another came in between,
and it is tried again; nothing is inferred again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from delta.tables import DeltaTable
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType, TimestampType

from conf.errors import LakeError, ReconciliationError
from storage.delta_log import batches_added, commit_staged, is_conflict, stage_rows, table_version
from storage.hadoop import JAVA_ERRORS, one_line, reported_as
from storage.lake import Lake, in_batches
from storage.pools import COMMITS, in_pool
from storage.schemas import CAPTIONS, OUTCOMES
from storage.seen_commits import hash_all

MOST_TRIES = 12
STATES = {"captioned", "rejected"}
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0
_REPLACES_AT = "replaces_at"
_ROWS = StructType([*CAPTIONS, StructField(_REPLACES_AT, TimestampType())])

T = TypeVar("T")
log = logging.getLogger("captionlake")


@dataclass(frozen=True)
class Stamp:
    """What every row of one run has in common."""

    run_id: str
    model_name: str
    model_version: str
    pipeline_version: str


class CommitResult(NamedTuple):
    """What became of a chunk's rows; the three add up to the chunk's files."""

    inserted: int
    updated: int
    already_there: int


def commit_chunk(lake: Lake, files: pa.Table, outcomes: pa.Table, *, stamp: Stamp) -> CommitResult:
    """Commit one row for each file of a chunk, atomically and never doubling a key.

    A row that is there already stays, unless the file's pending row named it as the one to
    replace, or it tells of an earlier state of the file, or it is a reject where this is a caption.

    Args:
        lake: the lake.
        files: the chunk, rows of `storage.captions.find_pending`.
        outcomes: `storage.schemas.OUTCOMES`, one row per file in any order.
        stamp: the run's identity.

    Raises:
        ReconciliationError: the outcomes are not exactly the chunk's files.
        LakeError: the table can't be written, or conflicts outlasted every retry.
    """
    rows = complete_rows(files, outcomes, stamp)
    if rows.num_rows == 0:
        return CommitResult(0, 0, 0)
    with reported_as(LakeError, f"Can't write {lake.captions_uri}"), in_pool(lake.spark, COMMITS):
        if rows[_REPLACES_AT].null_count == rows.num_rows:
            version = _append(lake, rows, as_of=pc.min(files["as_of_version"]).as_py())
            if version is not None:
                lake.seen_commits.record_own(version, rows["path"])
                return CommitResult(rows.num_rows, 0, 0)
        return retried(lambda: _merge(lake, rows))


def complete_rows(files: pa.Table, outcomes: pa.Table, stamp: Stamp) -> pa.Table:
    """Return the table's rows, columns of `CAPTIONS` and `replaces_at`, in the files' order."""
    outcomes = _aligned(files, outcomes)
    count = files.num_rows
    columns = {name: files[name] for name in ("path", "batch", "file_size_bytes", "mtime")}
    columns |= {name: outcomes[name] for name in OUTCOMES.names[1:]}
    columns |= {name: pa.repeat(value, count) for name, value in vars(stamp).items()}
    columns["captioned_at"] = pa.repeat(
        pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC")), count
    )
    columns["tries"] = pc.add(files["tries"], pa.scalar(1, pa.int32()))
    columns[_REPLACES_AT] = files[_REPLACES_AT]
    return pa.table({name: columns[name] for name in _ROWS.names})


def _aligned(files: pa.Table, outcomes: pa.Table) -> pa.Table:
    """Return the outcomes in the files' order, each path exactly once."""
    position = pc.index_in(files["path"], outcomes["path"])
    if position.null_count:
        lost = files["path"].filter(pc.is_null(position))[0].as_py()
        raise ReconciliationError(f"A chunk came back without {lost}.")
    if not outcomes.num_rows == files.num_rows == pc.count_distinct(position).as_py():
        raise ReconciliationError(
            f"A chunk of {files.num_rows} files came back with {outcomes.num_rows} outcomes."
        )
    if strange := set(outcomes["status"].to_pylist()) - STATES:
        raise ReconciliationError(f"A chunk came back with {strange.pop()!r} as an outcome.")
    return outcomes.take(position).select(OUTCOMES.names).cast(OUTCOMES)


def _append(lake: Lake, rows: pa.Table, *, as_of: int) -> int | None:
    """Commit rows that are new as of a version; None if somebody may have added them since."""
    spark, uri = lake.spark, lake.captions_uri
    batches, hashes = set(rows["batch"].to_pylist()), hash_all(rows["path"])

    def may_follow(latest: int) -> bool:
        return not any(
            lake.seen_commits.may_add(
                version,
                hashes=hashes,
                batches=batches,
                batches_added=lambda number: batches_added(spark, uri, number),
            )
            for version in range(as_of + 1, latest + 1)
        )

    staged = stage_rows(spark, uri, rows.select(CAPTIONS.names), CAPTIONS)
    return retried(lambda: commit_staged(spark, uri, staged, may_follow=may_follow))


def _merge(lake: Lake, rows: pa.Table) -> CommitResult:
    """Insert what is new and replace what is stale, in one commit."""
    batches = rows["batch"].unique().to_pylist()
    same_row = (
        in_batches(F.col("old.batch"), batches)
        & (F.col("old.pipeline_version") == F.lit(rows["pipeline_version"][0].as_py()))
        & (F.col("old.path") == F.col("new.path"))
    )
    values: dict[str, str | Column] = {name: F.col(f"new.{name}") for name in CAPTIONS.names}
    before = table_version(lake.spark, lake.captions_uri)
    table = DeltaTable.forPath(lake.spark, lake.captions_uri).alias("old")
    frame = lake.spark.createDataFrame(rows, schema=_ROWS)
    (result,) = (
        table.merge(frame.coalesce(1).alias("new"), same_row)
        .whenMatchedUpdate(condition=_is_stale(), set=values)
        .whenNotMatchedInsert(values=values)
        .execute()
        .collect()
    )
    inserted, updated = int(result["num_inserted_rows"]), int(result["num_updated_rows"])
    if inserted + updated and table_version(lake.spark, lake.captions_uri) == before + 1:
        lake.seen_commits.record_own(before + 1, rows["path"])  # nobody else committed meanwhile
    return CommitResult(inserted, updated, rows.num_rows - inserted - updated)


def _is_stale() -> Column:
    """The old row was seen stale, or is older, or rejects a state that is captioned now."""
    seen_stale = F.col("old.captioned_at") == F.col(f"new.{_REPLACES_AT}")
    older = F.col("new.mtime") > F.col("old.mtime")
    worse = (
        (F.col("new.mtime") == F.col("old.mtime"))
        & (F.col("new.file_size_bytes") == F.col("old.file_size_bytes"))
        & (F.col("old.status") == F.lit("rejected"))
        & (F.col("new.status") == F.lit("captioned"))
    )
    return seen_stale | older | worse


def retried(commit: Callable[[], T]) -> T:
    """Call again, after a growing random pause, while other commits come in between."""
    for attempt in range(1, MOST_TRIES + 1):
        try:
            return commit()
        except JAVA_ERRORS as error:
            if not is_conflict(error) or attempt == MOST_TRIES:
                raise
            pause = min(FIRST_PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS)
            log.info("Another commit came first; trying again: %s", one_line(error))
            time.sleep(random.uniform(0, pause))  # noqa: S311  # spreads writers, no secret
    raise AssertionError("unreachable")
