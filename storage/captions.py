"""The `captions` table: what is pending, what is known, and the proof that nothing is lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType, TimestampType

from conf.errors import LakeError
from storage.commits import CommitResult, Stamp, commit_chunk
from storage.delta_log import table_version
from storage.hadoop import reported_as
from storage.lake import Lake, in_batches
from storage.paths import batches_of
from storage.schemas import OUTCOMES, PENDING

__all__ = [
    "CommitResult",
    "Reconciliation",
    "Stamp",
    "captions_of",
    "commit_chunk",
    "find_pending",
    "known_image_prefixes",
    "reconcile",
]

_LISTED = StructType(
    [
        StructField("path", StringType()),
        StructField("file_size_bytes", LongType()),
        StructField("mtime", TimestampType()),
    ]
)


class Reconciliation(NamedTuple):
    """How every listed file is accounted for, counted in the committed table."""

    found: int
    already_done: int
    captioned: int
    rejected: int
    excluded: int
    claimed_elsewhere: int
    missing: int
    first_missing: tuple[str, ...]
    reasons: dict[str, int]

    @classmethod
    def all_done(cls, files: int, *, excluded: int = 0) -> Reconciliation:
        """Account for a listing that had a fresh row for every file that isn't excluded."""
        return cls(files, files - excluded, 0, 0, excluded, 0, 0, (), {})

    @property
    def holds(self) -> bool:
        """Whether every listed file has exactly one outcome."""
        return self.missing == 0


def find_pending(
    lake: Lake,
    listing: pa.Table,
    *,
    pipeline_version: str,
    retry_limit: int,
    transient_reasons: Collection[str],
    excluded: Collection[str] = (),
) -> pa.Table:
    """Return the listed files that need captioning, as a table of `storage.schemas.PENDING`.

    Pending is a file without a row at this pipeline version, one whose size or modification time
    differ from its row's, and one that was rejected for a transient reason and retried fewer than
    `retry_limit` times; never one whose path is in `excluded`. The rest is already done. No file is
    opened.
    """
    if excluded:
        withdrawn = pc.is_in(listing["path"], pa.array(sorted(excluded), pa.string()))
        listing = listing.filter(pc.invert(withdrawn))
    batches = batches_of(listing.column("path"), lake.batch_depth)
    retried = (F.col("row.status") == F.lit("rejected")) & F.col("row.reason").isin(
        list(transient_reasons)
    )
    again = retried & (F.coalesce("row.tries", F.lit(1)) <= F.lit(retry_limit))
    is_pending = F.col("row").isNull() | ~_is_fresh() | again
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        version = table_version(lake.spark, lake.captions_uri)
        joined = _join_rows(lake, listing, batches, pipeline_version=pipeline_version)
        found = (
            joined.where(is_pending)
            .select(
                "path",
                F.when(_is_fresh(), F.coalesce("row.tries", F.lit(1)))
                .otherwise(F.lit(0))
                .alias("tries"),
                F.col("row.captioned_at").alias("replaces_at"),
            )
            .toArrow()
        )
    return _as_pending(listing, batches, found, version)


def reconcile(
    lake: Lake,
    listing: pa.Table,
    *,
    stamp: Stamp,
    excluded: Collection[str] = (),
    claimed_elsewhere: Collection[str] = (),
) -> Reconciliation:
    """Account for every listed file by joining the listing to the committed table.

    A file counts by its fresh row (of this run: captioned or rejected; of another: already done),
    else as excluded or claimed elsewhere if its path is given there, else as missing. A row that
    another run wrote for a later state of the file also counts as already done.
    """
    batches = batches_of(listing.column("path"), lake.batch_depth)
    own = F.col("row.run_id") == F.lit(stamp.run_id)
    later = F.col("row.mtime") > F.col("mtime")
    outcome = (
        F.when(_is_fresh() & own, F.col("row.status"))
        .when(_is_fresh() | later, F.lit("already_done"))
        .otherwise(F.lit("missing"))
    )
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        joined = _join_rows(lake, listing, batches, pipeline_version=stamp.pipeline_version)
        groups = (
            joined.select("path", outcome.alias("outcome"), F.col("row.reason").alias("reason"))
            .groupBy("outcome", "reason")
            .agg(
                F.count("*").alias("files"),
                F.collect_list(F.when(F.col("outcome") == F.lit("missing"), F.col("path"))),
            )
            .collect()
        )
    counts = {(outcome, reason): files for outcome, reason, files, _ in groups}
    without_row = [path for *_, paths in groups for path in paths]
    return _as_reconciliation(counts, without_row, set(excluded), set(claimed_elsewhere))


def known_image_prefixes(lake: Lake, *, pipeline_version: str) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes, big-endian, of every captioned image's id, sorted; uint64 [N].

    A file whose prefix is not among them was never captioned at this pipeline version; for one
    whose prefix is, ask `captions_of`.
    """
    prefix = F.unhex(F.substring("image_id", 1, 16)).alias("prefix")
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        found = _captioned(lake, pipeline_version).select(prefix).toArrow()
    octets = pc.cast(found.column("prefix").combine_chunks(), pa.binary(8))
    return np.unique(np.frombuffer(octets.buffers()[1], ">u8", len(octets)).astype(np.uint64))


def captions_of(lake: Lake, image_ids: Collection[str], *, pipeline_version: str) -> pa.Table:
    """Return the captions of images already captioned at this pipeline version, each id once.

    Returns:
        Columns image_id, width, height, format, caption, score of `storage.schemas.OUTCOMES`;
        ids without a caption are left out.
    """
    names = ["image_id", "width", "height", "format", "caption", "score"]
    schema = pa.schema([OUTCOMES.field(name) for name in names])
    if not image_ids:
        return schema.empty_table()
    wanted = lake.spark.createDataFrame(pa.table({"image_id": sorted(set(image_ids))}))
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        rows = _captioned(lake, pipeline_version).select(*names)
        found = rows.join(F.broadcast(wanted), on="image_id", how="left_semi").toArrow()
    seen = pc.index_in(found["image_id"].unique(), found["image_id"])
    return found.take(seen).select(names).cast(schema)


def _captioned(lake: Lake, pipeline_version: str) -> DataFrame:
    return lake.captions().where(
        (F.col("pipeline_version") == F.lit(pipeline_version))
        & (F.col("status") == F.lit("captioned"))
        & F.col("image_id").isNotNull()
    )


def _join_rows(
    lake: Lake, listing: pa.Table, batches: pa.Array, *, pipeline_version: str
) -> DataFrame:
    """Return the listing with the struct `row` of what the table holds; null where nothing."""
    listed = lake.spark.createDataFrame(
        listing.select(["path", "file_size_bytes", "mtime"]), schema=_LISTED
    )
    kept = ("file_size_bytes", "mtime", "status", "reason", "tries", "run_id", "captioned_at")
    rows = lake.captions().where(
        in_batches(F.col("batch"), batches.unique().to_pylist())
        & (F.col("pipeline_version") == F.lit(pipeline_version))
    )
    rows = rows.select("path", F.struct(*kept).alias("row"))
    return listed.join(rows, on="path", how="left")


def _is_fresh() -> Column:
    """The row, if there is one, tells of the file's listed state."""
    same_size = F.col("row.file_size_bytes") == F.col("file_size_bytes")
    return F.coalesce(same_size & (F.col("row.mtime") == F.col("mtime")), F.lit(False))


def _as_pending(listing: pa.Table, batches: pa.Array, found: pa.Table, version: int) -> pa.Table:
    """Put what was found beside the listing's own columns, in the listing's order."""
    position = pc.index_in(found["path"], listing["path"])
    order = pc.sort_indices(position)
    found, position = found.take(order), position.take(order)
    listed = listing.append_column("batch", batches).take(position)
    columns = {name: listed[name] for name in listed.column_names}
    columns["tries"], columns["replaces_at"] = found["tries"], found["replaces_at"]
    columns["as_of_version"] = pa.array(np.full(found.num_rows, version), pa.int64())
    return pa.table(columns).select(PENDING.names).cast(PENDING)


def _as_reconciliation(
    counts: dict[tuple[str, str | None], int],
    without_row: Sequence[str],
    excluded: set[str],
    claimed: set[str],
) -> Reconciliation:
    def total(outcome: str) -> int:
        return sum(count for (name, _), count in counts.items() if name == outcome)

    left_out = [path for path in without_row if path in excluded]
    left_to_others = [path for path in without_row if path in claimed and path not in excluded]
    missing = sorted(set(without_row) - excluded - claimed)
    return Reconciliation(
        found=sum(counts.values()),
        already_done=total("already_done"),
        captioned=total("captioned"),
        rejected=total("rejected"),
        excluded=len(left_out),
        claimed_elsewhere=len(left_to_others),
        missing=len(missing),
        first_missing=tuple(missing[:5]),
        reasons={
            str(reason): count for (name, reason), count in counts.items() if name == "rejected"
        },
    )
