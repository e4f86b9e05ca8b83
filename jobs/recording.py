"""The run's own row: written when it begins and when it ends, whatever the end is."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa
from pyspark.sql import SparkSession

from conf.errors import LakeError
from conf.settings import CaptionSettings
from conf.version import VERSION
from jobs.beside import beside
from jobs.captioning import Tally
from jobs.cli import to_keep
from jobs.stage_budget import WAITING
from jobs.stopping import Stop
from jobs.summary import as_json
from storage.captions import Reconciliation, Stamp
from storage.exclusions import ExclusionList
from storage.hadoop import reported_as, write_text
from storage.lake import Lake
from storage.paths import batches_of
from storage.runs import RunRecord, RunState, Standing, write_run

JOB = "caption_images"
log = logging.getLogger("captionlake")


@dataclass(frozen=True)
class Scene:
    """The session, the lake and the listed input of a run.

    Attributes:
        spark: the ready session.
        stop: whether the run was asked to end.
        lake: the opened lake.
        listing: rows of `storage.schemas.LISTING`.
        exclusions: what was withdrawn from the lake.
        started: monotonic seconds at which the session was ready.
        stage_seconds: wall seconds of the driver's stages so far.
    """

    spark: SparkSession
    stop: Stop
    lake: Lake
    listing: pa.Table
    exclusions: ExclusionList
    started: float = field(default_factory=time.monotonic)
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage of the driver."""
        started = time.monotonic()
        yield
        self.add_seconds(name, time.monotonic() - started)

    def add_seconds(self, name: str, seconds: float) -> None:
        """Add to a stage of the driver."""
        self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + seconds


class Recording:
    """A run's row, as it stands."""

    def __init__(
        self,
        row: RunRecord,
        *,
        summary_uri: str | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.row = row
        self._summary_uri = summary_uri
        self._standing = standing

    def write(self, lake: Lake) -> None:
        """Write the row as it is now."""
        self._write(lake, self.row)

    def _write(self, lake: Lake, row: RunRecord) -> None:
        self._standing = write_run(lake, row, standing=self._standing)

    def end(self, state: RunState) -> None:
        """Set how and when the run ended."""
        self.row = replace(self.row, state=state, ended_at=datetime.now(tz=UTC))

    def write_summary(self, spark: SparkSession) -> None:
        """Write the row as JSON where that was asked; raises LakeError where it fails."""
        if self._summary_uri is not None:
            failure = f"Can't write {self._summary_uri}"
            with reported_as(LakeError, failure, remedy="Check --summary-json."):
                write_text(spark, self._summary_uri, as_json(self.row))


class CaptionRecording(Recording):
    """The row of a run that captions."""

    def __init__(
        self, scene: Scene, row: RunRecord, *, summary_uri: str | None, standing: Standing | None
    ) -> None:
        super().__init__(row, summary_uri=summary_uri, standing=standing)
        self._scene = scene
        self._first: Future[None] | None = None

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Write the row as it is now, while the block runs."""
        lake, first = self._scene.lake, self.row
        with beside(lake.spark, lambda: self._write(lake, first)) as self._first:
            yield
            self.await_first_row()

    def await_first_row(self) -> None:
        """Wait until the row is there, as it must be before anything is committed.

        Raises:
            LakeError: it can't be written.
            RuntimeError: it isn't being written.
        """
        if self._first is None:
            raise RuntimeError("No row is being written: this is for the block of `beginning`.")
        with self._scene.stage("bookkeeping"):
            self._first.result()

    def finish(self, counts: Reconciliation, tally: Tally) -> None:
        """Fill in what the run did; counts come from the committed table."""
        scene = self._scene
        seconds = time.monotonic() - scene.started - scene.stage_seconds.get(WAITING, 0.0)
        done = counts.captioned + counts.rejected
        self.row = replace(
            self.row,
            found=counts.found,
            already_done=counts.already_done,
            captioned=counts.captioned,
            rejected=counts.rejected,
            excluded=counts.excluded,
            claimed_elsewhere=counts.claimed_elsewhere,
            reasons=counts.reasons,
            stage_seconds=tally.stage_seconds | scene.stage_seconds,
            images_per_second=done / seconds if done else None,
        )


@contextmanager
def recorded(
    scene: Scene, settings: CaptionSettings, stamp: Stamp, *, standing: Standing | None
) -> Iterator[CaptionRecording]:
    """Write the captioning run's row beside the block, and at its end, whatever the end is.

    The block has to wait for the row (`await_first_row`) before it commits.
    """
    recording = CaptionRecording(
        scene,
        _first_row(scene, settings, stamp),
        summary_uri=settings.summary_json,
        standing=standing,
    )
    with _ending(recording, scene.lake, scene.stop), recording.beginning():
        yield recording


@contextmanager
def written(recording: Recording, lake: Lake, stop: Stop) -> Iterator[None]:
    """Write a run's row at its begin and at its end, whatever the end is."""
    recording.write(lake)
    with _ending(recording, lake, stop):
        yield


@contextmanager
def _ending(recording: Recording, lake: Lake, stop: Stop) -> Iterator[None]:
    try:
        yield
        stop.begin_closing()
        recording.end("succeeded")
        recording.write(lake)
        recording.write_summary(lake.spark)
    except BaseException:
        recording.end("interrupted" if stop.begin_closing() else "failed")
        with _warned(f"The run's end ({recording.row.state}) could not be recorded"):
            recording.write(lake)
        with _warned("The run's summary could not be written"):
            recording.write_summary(lake.spark)
        raise


@contextmanager
def _warned(message: str) -> Iterator[None]:
    """Log what goes wrong, since the failure that is being told already matters more."""
    try:
        yield
    except LakeError as failure:
        log.warning("%s: %s", message, failure)


def _first_row(scene: Scene, settings: CaptionSettings, stamp: Stamp) -> RunRecord:
    batches = batches_of(scene.listing.column("path"), scene.lake.batch_depth)
    return RunRecord(
        run_id=settings.run_id,
        job=JOB,
        arguments=json.dumps(to_keep(settings)),
        code_version=VERSION,
        model_version=stamp.model_version,
        pipeline_version=stamp.pipeline_version,
        started_at=datetime.now(tz=UTC),
        batches=tuple(batches.unique().to_pylist()),
    )
