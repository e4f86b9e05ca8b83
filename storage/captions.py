"""The `captions` table: what is pending, what is committed, and the proof that nothing is lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.lake import Lake


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
) -> pa.Table:
    """Return the listed files that need captioning, as a table of `storage.schemas.PENDING`.

    Pending is a file without a row at this pipeline version, one whose size or modification time
    differ from its row's, and one that was rejected for a transient reason and retried fewer than
    `retry_limit` times. The others are already done: `listing.num_rows - pending.num_rows`.
    No file is opened.
    """
    raise NotImplementedError


def commit_chunk(lake: Lake, files: pa.Table, outcomes: pa.Table, *, stamp: Stamp) -> CommitResult:
    """Commit one row for each file of a chunk, atomically and never doubling a key.

    Args:
        lake: the lake.
        files: the chunk, rows of `find_pending`.
        outcomes: `storage.schemas.OUTCOMES`, one row per file in any order.
        stamp: the run's identity.

    Raises:
        ReconciliationError: the outcomes are not exactly the chunk's files.
        LakeError: the table can't be written, or conflicts outlasted every retry.
    """
    raise NotImplementedError


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
    else as excluded or claimed elsewhere if its path is given there, else as missing.
    """
    raise NotImplementedError


def known_image_prefixes(lake: Lake, *, pipeline_version: str) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes, big-endian, of every captioned image's id, sorted; uint64 [N].

    A file whose prefix is not among them was never captioned at this pipeline version; for one
    whose prefix is, ask `captions_of`.
    """
    raise NotImplementedError


def captions_of(lake: Lake, image_ids: Collection[str], *, pipeline_version: str) -> pa.Table:
    """Return the captions of images already captioned at this pipeline version, each id once.

    Returns:
        Columns image_id, width, height, format, caption, score of `storage.schemas.OUTCOMES`;
        ids without a caption are left out.
    """
    raise NotImplementedError
