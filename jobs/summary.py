"""What a run tells at its end, on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict

import pyarrow as pa
from pyspark.sql import functions as F
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.bottleneck import describe_stages
from jobs.captioning import Tally
from jobs.chunks import total_bytes
from storage.lake import Lake
from storage.runs import RunRecord

BYTES_PER_MEGABYTE = 1e6


def print_dry_run(listing: pa.Table, pending: pa.Table) -> None:
    """Tell what a run would do."""
    megabytes = total_bytes(pending) / BYTES_PER_MEGABYTE
    print(
        f"{listing.num_rows} files found, {listing.num_rows - pending.num_rows} already done, "
        f"{pending.num_rows} pending ({megabytes:.1f} MB); nothing was captioned (--dry-run)."
    )


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
    if run.captioned + run.rejected == 0:
        print(f"Nothing is pending: all {run.found} files are done; no image was opened.")
    else:
        print(_counts(run, tally))
        print(describe_stages(run.stage_seconds, slots=lake.spark.sparkContext.defaultParallelism))
    print(f"Tables: {lake.captions_uri} and {lake.runs_uri}")
    print(f'Read:   DeltaTable("{_plain(lake.captions_uri)}").to_pandas() with deltalake, or')
    print(f'        spark.read.format("delta").load("{lake.captions_uri}"); see docs/tables.md')


def _counts(run: RunRecord, tally: Tally) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(run.reasons.items()))
    return (
        f"{run.found} files = {run.already_done} already done + {run.captioned} captioned + "
        f"{run.rejected} rejected{f' ({reasons})' if reasons else ''} + {run.excluded} excluded + "
        f"{run.claimed_elsewhere} claimed elsewhere; every file is accounted for in the table.\n"
        f"{tally.inferred} inferences, {run.images_per_second or 0:.1f} images/s from the ready "
        "session to the reconciled table."
    )


def _plain(uri: str) -> str:
    return uri.removeprefix("file:")


def as_json(run: RunRecord) -> str:
    """Return the run's row as JSON, times in ISO 8601."""
    return json.dumps(asdict(run), default=lambda moment: moment.isoformat(), sort_keys=True)
