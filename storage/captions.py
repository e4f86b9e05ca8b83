"""The `captions` table: what is pending, what is known, and the proof that nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.commits import CommitResult, Stamp, commit_chunk
from storage.lake import MOST_LITERAL_BATCHES, Lake
from storage.paths import batches_of
from storage.schemas import OUTCOMES, PENDING
from storage.table_rows import Condition, Rows, Wanted, read_rows

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

_PREFIX_BYTES = 8
_ROW = pa.schema(
    [
        ("path", pa.string()),
        ("file_size_bytes", pa.int64()),
        ("mtime", pa.timestamp("us", "UTC")),
        ("status", pa.string()),
        ("reason", pa.string()),
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
    schema = pa.schema([*_ROW, ("tries", pa.int32()), ("captioned_at", pa.timestamp("us", "UTC"))])
    version, rows = _rows_of(lake, listing, batches, schema, pipeline_version=pipeline_version)
    row = rows.drop_columns("path").take(pc.index_in(listing["path"], rows["path"]))
    is_fresh, tries = _is_fresh(row, listing), pc.coalesce(row["tries"], pa.scalar(1, pa.int32()))
    is_transient = pc.is_in(row["reason"], pa.array(sorted(transient_reasons), pa.string()))
    again = pc.and_(
        pc.and_(_is(row["status"], "rejected"), is_transient), pc.less_equal(tries, retry_limit)
    )
    pending = listing.append_column("batch", batches)
    pending = pending.append_column("tries", pc.if_else(is_fresh, tries, pa.scalar(0, pa.int32())))
    pending = pending.append_column("replaces_at", row["captioned_at"])
    as_of = pa.repeat(pa.scalar(version, pa.int64()), listing.num_rows)
    pending = pending.append_column("as_of_version", as_of)
    is_pending = pc.or_(pc.invert(is_fresh), again)
    return pending.filter(is_pending).select(PENDING.names).cast(PENDING)


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
    batches = batches_of(listing["path"], lake.batch_depth)
    schema = pa.schema([*_ROW, ("run_id", pa.string())])
    _, rows = _rows_of(lake, listing, batches, schema, pipeline_version=stamp.pipeline_version)
    file = listing.drop_columns("path").take(pc.index_in(rows["path"], listing["path"]))
    is_fresh = _is_fresh(rows, file)
    is_own = pc.and_(is_fresh, _is(rows["run_id"], stamp.run_id))
    is_later = pc.fill_null(pc.greater(rows["mtime"], file["mtime"]), False)
    is_done = pc.and_not(pc.or_(is_fresh, is_later), is_own)
    accounted = rows["path"].filter(pc.or_(is_own, is_done))
    without = listing["path"].filter(pc.invert(pc.is_in(listing["path"], accounted)))
    return _as_reconciliation(
        # A file that had two rows would be found twice.
        found=rows.num_rows + _count(pc.invert(pc.is_in(listing["path"], rows["path"]))),
        already_done=_count(is_done),
        own=rows.filter(is_own),
        without_row=without.to_pylist(),
        excluded=set(excluded),
        claimed=set(claimed_elsewhere),
    )


def known_image_prefixes(lake: Lake, *, pipeline_version: str) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes, big-endian, of every captioned image's id, sorted; uint64 [N].

    A file whose prefix is not among them was never captioned at this pipeline version; for one
    whose prefix is, ask `captions_of`.
    """
    wanted = Wanted(
        pa.schema([("prefix", pa.string())]),
        [_captioned(pipeline_version)],
        expressions={"prefix": f"substr(image_id, 1, {2 * _PREFIX_BYTES})"},
    )
    prefix = read_rows(lake.spark, lake.captions_uri, wanted).table["prefix"]
    prefix = prefix.filter(pc.match_substring_regex(prefix, f"^[0-9a-f]{{{2 * _PREFIX_BYTES}}}$"))
    octets = bytes.fromhex("".join(prefix.to_pylist()))
    return np.unique(np.frombuffer(octets, ">u8").astype(np.uint64))


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
    ids = pa.array(sorted(set(image_ids)), pa.string())
    wanted = Wanted(schema, [_captioned(pipeline_version)], among=("image_id", ids))
    found = read_rows(lake.spark, lake.captions_uri, wanted).table
    return found.take(pc.index_in(found["image_id"].unique(), found["image_id"]))


def _captioned(pipeline_version: str) -> Condition:
    return {"pipeline_version": [pipeline_version], "status": ["captioned"]}


def _rows_of(
    lake: Lake, listing: pa.Table, batches: pa.Array, schema: pa.Schema, *, pipeline_version: str
) -> Rows:
    """Return what the table holds of the listed files at a pipeline version."""
    condition = {"pipeline_version": [pipeline_version]}
    names = batches.unique().to_pylist()
    if len(names) <= MOST_LITERAL_BATCHES:
        condition["batch"] = names
    wanted = Wanted(schema, [condition], among=("path", listing["path"]))
    return read_rows(lake.spark, lake.captions_uri, wanted)


def _is_fresh(row: pa.Table, file: pa.Table) -> pa.ChunkedArray:
    """Whether each row tells of the listed state of the file beside it; not where one lacks."""
    same = [pc.equal(row[name], file[name]) for name in ("file_size_bytes", "mtime")]
    return pc.fill_null(pc.and_(*same), False)


def _is(column: pa.ChunkedArray, value: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(column, value), False)


def _count(chosen: pa.ChunkedArray) -> int:
    return pc.sum(chosen).as_py() or 0


def _as_reconciliation(
    *,
    found: int,
    already_done: int,
    own: pa.Table,
    without_row: Sequence[str],
    excluded: set[str],
    claimed: set[str],
) -> Reconciliation:
    rejected = own.filter(_is(own["status"], "rejected"))
    left_out = [path for path in without_row if path in excluded]
    left_to_others = [path for path in without_row if path in claimed and path not in excluded]
    missing = sorted(set(without_row) - excluded - claimed)
    return Reconciliation(
        found=found,
        already_done=already_done,
        captioned=_count(_is(own["status"], "captioned")),
        rejected=rejected.num_rows,
        excluded=len(left_out),
        claimed_elsewhere=len(left_to_others),
        missing=len(missing),
        first_missing=tuple(missing[:5]),
        reasons=dict(Counter(str(reason) for reason in rejected["reason"].to_pylist())),
    )
