"""How a run's pending files are cut into commits (chunks) and Spark tasks (units)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from conf.settings import MEBIBYTE, CaptionSettings
from udfs.caption import in_groups

CHUNK_FILES, CHUNK_BYTES = 2048, 1024 * MEBIBYTE
SLOT_BYTES = 256 * MEBIBYTE


@dataclass(frozen=True)
class Chunk:
    """Files that are inferred together and committed at once.

    Attributes:
        files: rows of the pending listing, `path, batch, file_size_bytes, mtime, …`.
        is_awaited: whether somebody waits for the ends of its tasks, so that they should be short:
            for the first captions of a run, and at its end, when other slots have nothing to do.
    """

    files: pa.Table
    is_awaited: bool = False

    @property
    def paths(self) -> list[str]:
        """The files' paths in the order of `files`."""
        return list(self.files.column("path").to_pylist())


def chunk_limits(settings: CaptionSettings, *, slots: int) -> tuple[int, int]:
    """Return the most files and bytes of a chunk.

    Unless they are set, they grow with the cluster: a chunk of fixed size would be cut into ever
    smaller tasks, and the decoder always computes a whole batch.
    """
    files = settings.chunk_files or max(CHUNK_FILES, slots * settings.partition_files)
    return files, settings.chunk_bytes or max(CHUNK_BYTES, slots * SLOT_BYTES)


def plan_chunks(
    pending: pa.Table, *, max_files: int, max_bytes: int, first_files: int
) -> Iterator[Chunk]:
    """Cut the pending files into chunks bounded by count and bytes.

    Files go by batch, so that a commit touches few partitions, and within it by size, so that
    equal bytes meet in one chunk and are captioned once. The first chunk is small, so that the
    first captions are there soon.
    """
    if pending.num_rows == 0:
        return
    ordered = pending.sort_by([("batch", "ascending"), ("file_size_bytes", "ascending")])
    sizes = ordered.column("file_size_bytes").to_pylist()
    start, number, limit = 0, 1, first_files
    while start < len(sizes):
        stop = _chunk_end(sizes, start, max_files=limit, max_bytes=max_bytes)
        is_awaited = number == 1 or stop == len(sizes)
        yield Chunk(ordered.slice(start, stop - start), is_awaited)
        start, number, limit = stop, number + 1, max_files


def _chunk_end(sizes: list[int], start: int, *, max_files: int, max_bytes: int) -> int:
    """Return where the chunk that begins at `start` ends; it holds one file at least."""
    total = sizes[start]
    stop = start + 1
    while stop < len(sizes) and stop - start < max_files and total + sizes[stop] <= max_bytes:
        total += sizes[stop]
        stop += 1
    return stop


def assign_units(files: pa.Table, *, unit_files: int, slots: int) -> list[list[str]]:
    """Spread a chunk's files over tasks of about `unit_files` files, a multiple of the slots.

    Inference costs the same for every image, so units are balanced by count. Files of one size go
    to one unit, which makes that unit caption equal bytes once; where they are more than a unit's
    share (a camera's uncompressed pictures all have one size), to several.
    """
    units = _unit_count(files.num_rows, unit_files=unit_files, slots=slots)
    share = -(-files.num_rows // max(1, units))
    assigned: list[list[str]] = [[] for _ in range(units)]
    lightest = [(0, unit) for unit in range(units)]
    ordered = files.sort_by([("file_size_bytes", "descending")])
    rows = zip(
        ordered.column("file_size_bytes").to_pylist(),
        ordered.column("path").to_pylist(),
        strict=True,
    )
    for _, group in groupby(rows, key=lambda row: row[0]):
        for paths in in_groups((path for _, path in group), share):
            _, unit = heapq.heappop(lightest)
            assigned[unit].extend(paths)
            heapq.heappush(lightest, (len(assigned[unit]), unit))
    return [paths for paths in assigned if paths]


def _unit_count(files: int, *, unit_files: int, slots: int) -> int:
    rounds = max(1, -(-files // (unit_files * slots)))
    return min(files, rounds * slots)


def total_bytes(files: pa.Table) -> int:
    """Return the files' size in bytes."""
    return int(pc.sum(files.column("file_size_bytes")).as_py() or 0)
