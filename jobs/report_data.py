"""What a run's page tells, read from the tables; withdrawn photographs are never among it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from conf.errors import InputError, LakeError
from jobs.recording import JOB as CAPTION_JOB
from jobs.report_health import SCORE_BINS, Speech
from storage.exclusions import ExclusionList, is_excluded
from storage.hadoop import reported_as
from storage.lake import Lake, in_batches
from storage.runs import RunRecord, find_run, list_runs

SHOWN_RUNS = 30
COMPARED_RUNS = 10
FREQUENT = 10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chosen:
    """Rows of the photographs on the page: at random, of the lowest scores, and rejected."""

    random: Sequence[Row]
    lowest: Sequence[Row]
    rejected: Sequence[Row]

    def all(self) -> list[Row]:
        """Return all rows."""
        return [*self.random, *self.lowest, *self.rejected]


@dataclass(frozen=True)
class RunData:
    """All that the tables know of a run.

    Attributes:
        run: its row.
        earlier: the captioning runs that began before, the oldest first.
        speech: what its captions look like.
        usual: the same of the last runs before that succeeded.
        chosen: photographs to show.
    """

    run: RunRecord
    earlier: Sequence[RunRecord]
    speech: Speech
    usual: Speech
    chosen: Chosen


def read_run(lake: Lake, run_id: str, *, photographs: int) -> RunData:
    """Return what there is to tell.

    Raises:
        InputError: there is no such run, or it didn't caption.
        LakeError: the tables can't be read.
    """
    run = find_run(lake, run_id)
    if run is None or run.job != CAPTION_JOB:
        raise InputError(f"{lake.runs_uri} has no captioning run {run_id}.", remedy="See --run-id.")
    earlier = [
        one
        for one in list_runs(lake, job=CAPTION_JOB)
        if (one.started_at, one.run_id) < (run.started_at, run.run_id)
    ][-SHOWN_RUNS:]
    compared = [one for one in earlier if one.state == "succeeded" and one.captioned]
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        rows = _rows_of(lake, [run])
        return RunData(
            run,
            earlier,
            _speech_of(rows),
            _speech_of(_rows_of(lake, compared[-COMPARED_RUNS:])),
            _choose(rows, run_id, photographs),
        )


def _rows_of(lake: Lake, runs: Sequence[RunRecord]) -> DataFrame:
    batches = sorted({batch for run in runs for batch in run.batches})
    exclusions = ExclusionList(lake.spark, lake.exclusions_uri).now()
    rows = lake.captions().where(
        in_batches(F.col("batch"), batches) & F.col("run_id").isin([run.run_id for run in runs])
    )
    return rows.where(~is_excluded(exclusions, image_id=F.col("image_id"))) if exclusions else rows


def _speech_of(rows: DataFrame) -> Speech:
    images = rows.where(F.col("status") == "captioned").groupBy("run_id", "image_id")
    said = images.agg(F.min(F.struct("caption", "score")).alias("said")).select("run_id", "said.*")
    words = F.size(F.split(F.trim("caption"), r"\s+"))
    tenth = F.least(F.floor(F.col("score") * SCORE_BINS), F.lit(SCORE_BINS - 1)).cast("int")
    by_run = said.groupBy("run_id").agg(
        F.count("*").alias("images"), F.countDistinct("caption").alias("captions")
    )
    runs = by_run.collect()
    shares = [row.captions / row.images for row in runs]
    frequent = said.groupBy("caption").count().where(F.col("count") > 1)
    return Speech(
        images=sum(row.images for row in runs),
        distinct_share=sum(shares) / len(shares) if shares else None,
        words=_counts(said.groupBy(words.alias("bin")).count()),
        scores=_counts(said.where("score IS NOT NULL").groupBy(tenth.alias("bin")).count()),
        frequent=[
            (row["caption"], row["count"])
            for row in frequent.orderBy(F.desc("count"), "caption").limit(FREQUENT).collect()
        ],
    )


def _counts(bins: DataFrame) -> dict[int, int]:
    return {row["bin"]: row["count"] for row in bins.orderBy("bin").collect()}


def _choose(rows: DataFrame, run_id: str, count: int) -> Chosen:
    """Choose the same photographs for the same run and table; copies are shown once."""
    names = ["path", "image_id", "file_size_bytes", "caption", "score", "reason", "detail"]
    images = rows.where(F.col("status") == "captioned").groupBy("image_id")
    captioned = images.agg(F.min(F.struct(*names)).alias("one")).select("one.*")
    drawn = F.sha2(F.concat(F.lit(run_id), "path"), 256)
    of_reason = F.row_number().over(Window.partitionBy("reason").orderBy("path"))
    rejected = rows.where(F.col("status") == "rejected").withColumn("place", of_reason)
    return Chosen(
        _collect(captioned.orderBy(drawn).limit(count), names),
        _collect(captioned.orderBy("score", "path").limit(count), names),
        _collect(rejected.orderBy("place", "reason").limit(count), names),
    )


def _collect(rows: DataFrame, names: Sequence[str]) -> list[Row]:
    return [row.asDict() for row in rows.select(*names).collect()]
