"""What a run tells at its end, on standard output."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
from pyspark.sql import functions as F
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.captioning import Tally
from jobs.chunks import total_bytes
from jobs.session import task_slots
from jobs.stage_budget import describe_stages
from storage.lake import Lake
from storage.runs import RunRecord

BYTES_PER_MEGABYTE = 1e6


def print_pending(
    listing: pa.Table, pending: pa.Table, earlier: Sequence[RunRecord], *, excluded: int = 0
) -> None:
    """Tell what a run would do and, from earlier runs, how long it would take."""
    megabytes = total_bytes(pending) / BYTES_PER_MEGABYTE
    done = listing.num_rows - pending.num_rows - excluded
    left_out = f"{excluded} excluded, " if excluded else ""
    print(
        f"{listing.num_rows} files found, {done} already done, {left_out}"
        f"{pending.num_rows} pending ({megabytes:.1f} MB); nothing was captioned."
    )
    if pending.num_rows:
        print(_estimate(pending.num_rows, earlier))


def _estimate(images: int, earlier: Sequence[RunRecord]) -> str:
    """Small runs are mostly fixed cost, so the run of the most similar size tells the speed."""
    if not earlier:
        return "How long it will take is unknown: no run at this pipeline version has ended well."
    run = min(earlier, key=lambda run: abs(math.log(images / max(1, run.captioned + run.rejected))))
    speed = run.images_per_second or 0.0
    return (
        f"About {describe_seconds(images / speed)} at {speed:.1f} images/s, as in run {run.run_id} "
        f"of {run.started_at:%Y-%m-%d} ({run.captioned + run.rejected} images)."
    )


def describe_seconds(seconds: float) -> str:
    """Return a length of time as a person says it."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def print_captions(lake: Lake, run: RunRecord, paths: pa.Table) -> None:
    """Show each listed photograph's outcome at the run's pipeline version."""
    rows = (
        lake.captions()
        .where(F.col("pipeline_version") == run.pipeline_version)
        .where(F.col("path").isin(paths.column("path").to_pylist()))
        .select("path", "score", "caption", "reason", "detail")
        .orderBy("path")
        .collect()
    )
    table = Table("photograph", "score", "caption", box=None, pad_edge=False)
    for row in rows:
        text = row.caption if row.caption is not None else f"rejected: {row.reason}, {row.detail}"
        score = "" if row.score is None else f"{row.score:.2f}"
        table.add_row(escape(row.path.rpartition("/")[2]), score, escape(text))
    Console().print(table)


def print_summary(lake: Lake, run: RunRecord, tally: Tally) -> None:
    """Tell the counts, the speed, the stages, where the tables are and how to query them."""
    if run.found == run.already_done + run.excluded:
        excluded = f", {run.excluded} excluded" if run.excluded else ""
        print(f"Nothing is pending: all {run.already_done} files are done{excluded}.")
    else:
        print(_counts(run, tally))
        print(describe_stages(run.stage_seconds, slots=task_slots(lake.spark)))
    print(f"Tables: {lake.captions_uri} and {lake.runs_uri}")
    print(f'Read:   DeltaTable("{_plain(lake.captions_uri)}").to_pandas() with deltalake, or')
    print(f'        spark.read.format("delta").load("{lake.captions_uri}"); see docs/tables.md')


def _counts(run: RunRecord, tally: Tally) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(run.reasons.items()))
    return (
        f"{run.found} files = {run.already_done} already done + {run.captioned} captioned + "
        f"{run.rejected} rejected{f' ({reasons})' if reasons else ''} + {run.excluded} excluded + "
        f"{run.claimed_elsewhere} claimed elsewhere{_missing(run)}.\n"
        f"{tally.inferred} inferences, {run.images_per_second or 0:.1f} images/s from the ready "
        "session to the reconciled table."
    )


def _missing(run: RunRecord) -> str:
    told = (run.already_done, run.captioned, run.rejected, run.excluded, run.claimed_elsewhere)
    missing = run.found - sum(told)
    return f" + {missing} MISSING" if missing else "; every file is accounted for in the table"


def _plain(uri: str) -> str:
    return uri.removeprefix("file:")


def as_json(run: RunRecord) -> str:
    """Return the run's row as JSON, times in ISO 8601."""
    return json.dumps(asdict(run), default=lambda moment: moment.isoformat(), sort_keys=True)
