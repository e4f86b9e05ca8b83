"""Caption every pending image of an input into a lake: `./spark-submit.sh caption_images`."""

from __future__ import annotations

import sys
import time

import pyarrow as pa
from pyspark.sql import SparkSession

from conf.errors import (
    ClaimedElsewhereError,
    InputError,
    LakeError,
    ReconciliationError,
    RejectedShareError,
    UsageError,
)
from conf.resolve import Resolved
from conf.settings import DEFAULT_MODEL, CaptionSettings
from jobs.beside import beside
from jobs.captioning import CaptionRun, Tally
from jobs.chunks import chunk_limits
from jobs.claiming import Settled, settle
from jobs.cli import required, run_command
from jobs.demonstration import as_demonstration, is_demonstration
from jobs.image_memory import ImageMemory
from jobs.inference import inference_of
from jobs.recording import JOB, CaptionRecording, Recording, Scene, recorded
from jobs.session import session, task_slots
from jobs.shipping import ship_package
from jobs.stage_budget import WAITING
from jobs.stopping import Stop
from jobs.summary import print_captions, print_pending, print_summary
from models.identity import pipeline_version
from models.package import ModelPackage, open_package
from models.reasons import TRANSIENT
from models.registry import resolve_model
from models.runtime import refuse_misfit
from storage.captions import (
    Reconciliation,
    Stamp,
    find_pending,
    known_image_prefixes,
    reconcile,
)
from storage.claims import Claims
from storage.exclusions import ExclusionList
from storage.hdfs_classes import load_if_archiving
from storage.lake import open_existing_lake, open_lake
from storage.listing import list_files
from storage.paths import default_batch_depth, qualify
from storage.runs import RunRecord, find_run, look_up, mark_interrupted, succeeded_runs
from udfs.budget import SumOfSeconds
from udfs.starting import start_python

DESCRIPTION = """\
Caption every pending image of a directory or glob into Delta tables.

Without any option it captions sample photographs into ./lake. Every listed file ends in
exactly one row of the table `captions`: captioned, or rejected with a reason. A file is pending if
it has no row at the present pipeline version, has changed, or failed for a passing reason; a rerun
over finished files opens none of them.

exit codes: 0 done, 2 usage, 3 input, 4 model, 5 lake, 6 environment, 7 too many rejected,
  8 not reconciled, 9 claimed by another run, 143 terminated
"""


def main(resolved: Resolved[CaptionSettings], stop: Stop) -> None:
    """Run the job from its settings to its summary."""
    settings = resolved.settings
    demonstration = is_demonstration(resolved)
    if demonstration:
        settings = as_demonstration(settings)
    required(settings, "input", "lake")
    refuse_misfit(settings.runtime, settings.precision, device=settings.device)
    package = open_package(resolve_model(settings.model, tracking_uri=settings.tracking_uri))
    env_local = resolved.environment.is_local
    # Python's start takes a second, as does all that must be known before there is work for it. A
    # cluster isn't asked for an executor before.
    is_early = env_local and not settings.dry_run
    with (
        session(JOB, resolved.environment, stop) as spark,
        beside(spark, lambda: start_python(spark) if is_early else None),
    ):
        try:
            scene = set_scene(spark, stop, settings, env_local=env_local)
        except InputError:
            if not passes_again(spark, settings, env_local=env_local):
                raise
        else:
            caption(scene, settings, package, show_captions=demonstration)
            load_if_archiving(spark)
    if settings.model == DEFAULT_MODEL:
        print(f"The default model is for research use only: {DEFAULT_MODEL}/MODEL_CARD.md")


def set_scene(
    spark: SparkSession, stop: Stop, settings: CaptionSettings, *, env_local: bool
) -> Scene:
    """Check input and lake, in this order, before anything is written."""
    started = time.monotonic()
    input_path = qualify(spark, str(settings.input), env_local=env_local)
    lake_path = qualify(spark, str(settings.lake), env_local=env_local)
    listing = list_files(
        spark,
        input_path,
        include=settings.include,
        require_success=settings.require_success,
        lake_uri=lake_path,
    )
    listed = time.monotonic()
    depth = settings.batch_depth
    lake = open_lake(
        spark, lake_path, batch_depth=default_batch_depth(input_path) if depth is None else depth
    )
    seconds = {"listing": listed - started, "open_lake": time.monotonic() - listed}
    exclusions = ExclusionList(spark, lake.exclusions_uri)
    return Scene(spark, stop, lake, listing, exclusions, started, seconds)


def caption(
    scene: Scene, settings: CaptionSettings, package: ModelPackage, *, show_captions: bool
) -> None:
    """Caption what is pending, account for every listed file, and tell the result."""
    stamp = stamp_of(settings, package)
    with scene.stage("bookkeeping"):
        beginning = look_up(scene.lake, settings.run_id)
    if has_succeeded(scene.spark, settings, beginning.earlier):
        return
    pending = find_what_is_pending(scene, settings, stamp)
    if settings.dry_run:
        tell_pending(scene, stamp, pending)
        return
    refuse_too_much(scene, settings, stamp, pending)
    claims = Claims(scene.lake, settings.run_id)
    with claims.hold(pending.column("batch").unique().to_pylist()) as claim:
        settled = settle(
            claims,
            claim,
            pending,
            on_claimed=settings.on_claimed,
            stop=scene.stop,
            find_pending=lambda: find_what_is_pending(scene, settings, stamp),
        )
        if settled.waited_seconds is not None:  # perhaps for this very run, started twice
            scene.add_seconds(WAITING, settled.waited_seconds)
            beginning = look_up(scene.lake, settings.run_id)
            if has_succeeded(scene.spark, settings, beginning.earlier):
                return
        with scene.stage("bookkeeping"):
            if dead := beginning.running - claims.live_runs():
                mark_interrupted(scene.lake, dead)
        with recorded(scene, settings, stamp, standing=beginning.standing) as record:
            tally = caption_pending(scene, settings, package, stamp, settled.pending, record=record)
            with scene.stage("reconcile"):
                is_retry = beginning.earlier is not None
                counts = account(scene, stamp, settled, tally, is_retry=is_retry)
            record.finish(counts, tally)
            if show_captions:
                print_captions(scene.lake, record.row, scene.listing)
            print_summary(scene.lake, record.row, tally)
            judge(counts, listed=scene.listing.num_rows, settings=settings)


def passes_again(spark: SparkSession, settings: CaptionSettings, *, env_local: bool) -> bool:
    """Whether a run whose input is gone, archived perhaps, has succeeded before, which is told."""
    lake_path = qualify(spark, str(settings.lake), env_local=env_local)
    try:
        earlier = find_run(open_existing_lake(spark, lake_path), settings.run_id)
    except LakeError:  # that of the input came first
        return False
    return has_succeeded(spark, settings, earlier)


def has_succeeded(
    spark: SparkSession, settings: CaptionSettings, earlier: RunRecord | None
) -> bool:
    """Whether the run has succeeded before, which is told."""
    if earlier is None or earlier.state != "succeeded":
        return False
    print(f"Run {earlier.run_id} has already succeeded; nothing to do.")
    Recording(earlier, summary_uri=settings.summary_json).write_summary(spark)
    return True


def find_what_is_pending(scene: Scene, settings: CaptionSettings, stamp: Stamp) -> pa.Table:
    """Return the listed files that have no valid row at this moment."""
    with scene.stage("pending"):
        return find_pending(
            scene.lake,
            scene.listing,
            pipeline_version=stamp.pipeline_version,
            retry_limit=settings.retry_limit,
            transient_reasons=TRANSIENT,
            excluded=excluded_paths(scene),
        )


def excluded_paths(scene: Scene) -> frozenset[str]:
    """Return the listed files whose path was withdrawn."""
    return scene.exclusions.now().paths_among(scene.listing.column("path").to_pylist())


def stamp_of(settings: CaptionSettings, package: ModelPackage) -> Stamp:
    """Return what all rows of this run have in common."""
    version = pipeline_version(
        package, beam_width=settings.beam_width, precision=settings.precision
    )
    return Stamp(settings.run_id, package.config.name, package.version, version)


def tell_pending(scene: Scene, stamp: Stamp, pending: pa.Table) -> None:
    """Tell what is pending and, from earlier runs, how long it will take."""
    ended = succeeded_runs(scene.lake, pipeline_version=stamp.pipeline_version)
    print_pending(scene.listing, pending, ended, excluded=len(excluded_paths(scene)))


def refuse_too_much(
    scene: Scene, settings: CaptionSettings, stamp: Stamp, pending: pa.Table
) -> None:
    """Tell what is pending and raise UsageError where it is more than the run may take on."""
    if settings.max_pending is not None and pending.num_rows > settings.max_pending:
        tell_pending(scene, stamp, pending)
        raise UsageError(
            f"{pending.num_rows} images are pending, more than --max-pending "
            f"{settings.max_pending}.",
            remedy="A new model makes every image pending; raise --max-pending if that is meant.",
        )


def caption_pending(
    scene: Scene,
    settings: CaptionSettings,
    package: ModelPackage,
    stamp: Stamp,
    pending: pa.Table,
    *,
    record: CaptionRecording,
) -> Tally:
    """Caption the pending files; with none, no model is loaded and no file opened."""
    tally = Tally()
    if pending.num_rows == 0:
        return tally
    budget = scene.spark.sparkContext.accumulator({}, SumOfSeconds())
    archive = ship_package(scene.spark, package)
    with scene.stage("captioning"):
        known = known_image_prefixes(scene.lake, pipeline_version=stamp.pipeline_version)
        inference = inference_of(
            scene.spark,
            settings,
            pending.column("path").to_pylist(),
            archive=archive,
            memory=ImageMemory(scene.spark.sparkContext, known),
            account=budget.add,
            is_excluded=scene.exclusions.now().holds_image,
        )
        run = CaptionRun(
            scene.lake,
            inference,
            stamp,
            tally,
            scene.exclusions,
            scene.stop,
            before_commit=record.await_first_row,
        )
        chunk_files, chunk_bytes = chunk_limits(settings, slots=task_slots(scene.spark))
        run.caption(pending, chunk_files=chunk_files, chunk_bytes=chunk_bytes)
    tally.stage_seconds |= budget.value
    return tally


def account(
    scene: Scene, stamp: Stamp, settled: Settled, tally: Tally, *, is_retry: bool
) -> Reconciliation:
    """Return how the committed table accounts for every listed file.

    Where nothing was pending, looking for pending files was that very join. A retry's earlier rows
    are its own, though: a bad batch doesn't become a good one by the second try.
    """
    by_path = excluded_paths(scene)
    if settled.pending.num_rows == 0 and not settled.elsewhere and not is_retry:
        return Reconciliation.all_done(scene.listing.num_rows, excluded=len(by_path))
    return reconcile(
        scene.lake,
        scene.listing,
        stamp=stamp,
        excluded=by_path | tally.excluded,
        claimed_elsewhere=settled.elsewhere,
    )


def judge(counts: Reconciliation, *, listed: int, settings: CaptionSettings) -> None:
    """Raise what makes a run fail although its chunks are committed.

    Raises:
        ReconciliationError: the table doesn't hold exactly one outcome for each listed file.
        ClaimedElsewhereError: files were left to another run.
        RejectedShareError: the share of rejected images passes the limit.
    """
    if not counts.holds or counts.found != listed:
        first = f", for one {counts.first_missing[0]}" if counts.first_missing else ""
        raise ReconciliationError(
            f"{counts.missing} of {listed} listed files have no outcome in the table"
            f"{first} ({counts.found} rows found).",
            remedy="Run the same command again; finished files are not captioned twice.",
        )
    if counts.claimed_elsewhere:
        raise ClaimedElsewhereError(
            f"{counts.claimed_elsewhere} files were left to another run that works on them.",
            remedy="Run again when it has ended.",
        )
    done = counts.captioned + counts.rejected
    if done and counts.rejected / done > settings.max_rejected_share:
        raise RejectedShareError(
            f"{counts.rejected} of {done} images were rejected, more than the share "
            f"{settings.max_rejected_share:g} allows; all rows are committed.",
            remedy="Query the view rejects_by_reason.",
        )


if __name__ == "__main__":
    sys.exit(run_command(main, CaptionSettings, command=JOB, description=DESCRIPTION))
