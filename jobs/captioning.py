"""One run of captioning: from pending files to committed, reconciled rows, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from conf.errors import EnvironmentFault
from jobs.ahead import map_ahead
from jobs.chunks import Chunk, plan_chunks
from jobs.inference import Inference
from jobs.progress import reporting
from jobs.rows import one_outcome_each
from jobs.session import task_slots
from jobs.stopping import Stop
from models.reasons import Reason
from storage.captions import Stamp, captions_of, commit_chunk
from storage.exclusions import ExclusionList
from storage.lake import Lake
from storage.reading import probe_unread
from udfs.outcome import ALREADY_CAPTIONED, CAPTIONED, EXCLUDED

FIRST_CHUNK_SHARE, FIRST_FILES_PER_SLOT = 8, 32  # of a chunk; the less counts
OUTAGE_SHARE, OUTAGE_FILES = 0.5, 3  # of a chunk, and at least
_UNREAD = (Reason.UNREADABLE, Reason.VANISHED)


@dataclass
class Tally:
    """What a run has done so far; seconds of workers add up over all tasks.

    `excluded` are the paths of pending files that turned out to be withdrawn photographs.
    """

    inferred: int = 0
    committed: int = 0
    excluded: set[str] = field(default_factory=set)
    stage_seconds: dict[str, float] = field(default_factory=dict)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds

    def add_outcomes(self, returned: pa.Table) -> None:
        """Count a chunk's inferences."""
        self.inferred += pc.sum(returned.column("inferred")).as_py() or 0


@dataclass(frozen=True)
class CaptionRun:
    """Captions pending files and commits them.

    Attributes:
        lake: where the rows go.
        inference: turns chunks into outcomes.
        stamp: what all rows of the run have in common.
        tally: filled as the run goes.
        exclusions: what was withdrawn, also while the run goes.
        stop: ends the run between chunks.
        before_commit: is called before each chunk is committed.
    """

    lake: Lake
    inference: Inference
    stamp: Stamp
    tally: Tally
    exclusions: ExclusionList
    stop: Stop
    before_commit: Callable[[], None]

    def caption(self, pending: pa.Table, *, chunk_files: int, chunk_bytes: int) -> None:
        """Caption all pending files; each chunk is committed while the next is being inferred."""
        chunks = plan_chunks(
            pending,
            max_files=chunk_files,
            max_bytes=chunk_bytes,
            first_files=self._first_files(chunk_files),
        )
        with reporting(pending.num_rows) as reporter:
            for chunk, returned in map_ahead(self.lake.spark, self.infer, chunks):
                self.stop.check()
                self.tally.add_outcomes(returned)
                self.before_commit()
                started = time.monotonic()
                left = self.leave_out_excluded(chunk, returned)
                outcomes = self.complete(left, returned)
                commit_chunk(self.lake, left.files, outcomes, stamp=self.stamp)
                self.inference.memory.add(captioned_images(outcomes))
                self.tally.add_seconds("commit", time.monotonic() - started)
                self.tally.committed += outcomes.num_rows
                reporter.advance(chunk.files.num_rows)

    def _first_files(self, chunk_files: int) -> int:
        """A small first chunk: whether a night goes well should be seen soon."""
        slots = task_slots(self.lake.spark)
        return max(1, min(chunk_files // FIRST_CHUNK_SHARE, FIRST_FILES_PER_SLOT * slots))

    def infer(self, chunk: Chunk) -> pa.Table:
        """Return what the workers made of a chunk, unless the run is to end."""
        self.stop.check()
        return self.inference.outcomes(chunk)

    def leave_out_excluded(self, chunk: Chunk, returned: pa.Table) -> Chunk:
        """Return the chunk without the photographs that were withdrawn, be it meanwhile.

        One that was let in again meanwhile has no caption yet, and gets it from the next run.
        """
        exclusions = self.exclusions.now()
        is_excluded = pc.equal(returned["status"], EXCLUDED)
        if not exclusions and not pc.any(is_excluded).as_py():
            return chunk
        found = zip(returned["path"].to_pylist(), returned["image_id"].to_pylist(), strict=True)
        withdrawn = {path for path, image_id in found if exclusions.holds_image(image_id)}
        withdrawn |= set(returned.filter(is_excluded)["path"].to_pylist())
        withdrawn |= exclusions.paths_among(chunk.paths)
        self.tally.excluded |= withdrawn
        is_left = pc.invert(pc.is_in(chunk.files["path"], pa.array(sorted(withdrawn), pa.string())))
        return replace(chunk, files=chunk.files.filter(is_left))

    def complete(self, chunk: Chunk, returned: pa.Table) -> pa.Table:
        """Return one outcome for each file of the chunk, whatever the workers returned."""
        of_chunk = returned.filter(pc.is_in(returned["path"], chunk.files["path"].combine_chunks()))
        rows = {row["path"]: row for row in of_chunk.to_pylist()}
        twins = self._twins(chunk, rows)
        missing = [path for path in chunk.paths if path not in rows]
        unread = probe_unread(self.lake.spark, missing) if missing else {}
        refuse_outage(chunk, rows, unread)
        return one_outcome_each(chunk.files, rows, unread=unread, twins=twins)

    def _twins(self, chunk: Chunk, rows: dict[str, Any]) -> Mapping[str, Any]:
        """Return the earlier captions of equal bytes; infer those that have none after all.

        A worker knows earlier images by 64 bits of their hash, and a row may have been withdrawn
        since: such images are inferred now, and `rows` holds the result, or nothing where the file
        can't be read any more.
        """
        wanted = {row["image_id"] for row in rows.values() if _has_twin(row)}
        if not wanted:
            return {}
        version = self.stamp.pipeline_version
        known = captions_of(self.lake, wanted, pipeline_version=version)
        twins = {row["image_id"]: row for row in known.to_pylist()}
        orphans = [p for p, row in rows.items() if _has_twin(row) and row["image_id"] not in twins]
        if orphans:
            files = chunk.files.filter(pc.is_in(chunk.files.column("path"), pa.array(orphans)))
            inferred = self.inference.without_known_images().outcomes(replace(chunk, files=files))
            self.tally.add_outcomes(inferred)
            for path in orphans:
                del rows[path]
            rows.update((row["path"], row) for row in inferred.to_pylist())
        return twins


def refuse_outage(
    chunk: Chunk, rows: Mapping[str, Any], unread: Mapping[str, tuple[str, str]]
) -> None:
    """Tell an outage from bad files: most of a chunk failing to be read is no file's fault.

    A file that already failed in an earlier run says nothing about the storage now.

    Raises:
        EnvironmentFault: the storage fails; nothing of the chunk is committed.
    """
    failures = {path: (row["reason"], row["detail"]) for path, row in rows.items()} | dict(unread)
    is_new = pc.equal(chunk.files["tries"], 0)
    of_new = [failures[path] for path in chunk.files["path"].filter(is_new).to_pylist()]
    details = [detail for reason, detail in of_new if reason in _UNREAD]
    failing = [detail for detail in details if "permission" not in detail.lower()]
    if len(failing) >= OUTAGE_FILES and len(failing) > OUTAGE_SHARE * len(chunk.paths):
        raise EnvironmentFault(
            f"{len(failing)} of {len(chunk.paths)} files of a chunk can't be read "
            f"(for one: {failing[0]}), so the storage is failing, not the files.",
            remedy="Nothing of this chunk was committed; run again when the storage is back.",
        )


def captioned_images(outcomes: pa.Table) -> list[str]:
    """Return the ids of the images that were captioned."""
    captioned = outcomes.filter(pc.equal(outcomes.column("status"), CAPTIONED))
    return list(captioned.column("image_id").to_pylist())


def _has_twin(row: Mapping[str, Any]) -> bool:
    return bool(row["status"] == ALREADY_CAPTIONED)
