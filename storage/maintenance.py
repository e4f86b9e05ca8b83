"""Keeping the tables small: what no reader needs is deleted, small files become large ones.

Every deletion is a MERGE against the keys, never a condition with values in it: Delta's log would
keep the condition, and with it what was to be forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.errors import LakeError
from storage.commits import retried
from storage.delta_log import write_checkpoint
from storage.excluded import Exclusions
from storage.exclusions import is_excluded
from storage.hadoop import file_system, hadoop_path, path_exists, reported_as
from storage.lake import Lake, in_batches
from storage.views import create_views

_KEY = ("batch", "path", "pipeline_version")


class Size(NamedTuple):
    """What a folder holds on disk, logs and unreferenced files included."""

    files: int
    size_bytes: int


def size_of(spark: SparkSession, uri: str) -> Size:
    """Return a folder's files and bytes; nothing where there is no folder."""
    if not path_exists(spark, uri):
        return Size(0, 0)
    summary = file_system(spark, uri).getContentSummary(hadoop_path(spark, uri))
    return Size(int(summary.getFileCount()), int(summary.getLength()))


def delete_excluded(lake: Lake, exclusions: Exclusions) -> int:
    """Delete every row of a withdrawn photograph; return how many there were.

    Raises:
        LakeError: the table can't be read or written.
    """
    if not exclusions:
        return 0
    with reported_as(LakeError, f"Can't write {lake.captions_uri}"):
        keys = (
            lake.captions()
            .where(is_excluded(exclusions, image_id=F.col("image_id")))
            .select(*_KEY)
            .distinct()
            .collect()
        )
        if not keys:
            return 0
        gone = lake.spark.createDataFrame(keys, lake.captions().select(*_KEY).schema)
        batches = sorted({key.batch for key in keys})
        within = in_batches(F.col("old.batch"), batches)
        return retried(lambda: _delete(lake.spark, lake.captions_uri, gone, _KEY, within))


def delete_superseded(lake: Lake, *, older_than_days: int) -> int:
    """Delete the rows of pipeline versions that no row of `captions_latest` in their batch has.

    A version goes from a batch as a whole, and only once its youngest row there is that old; one
    that a run under way captions its batches with stays.
    """
    before = F.lit(datetime.now(UTC) - timedelta(days=older_than_days))
    with reported_as(LakeError, f"Can't write {lake.captions_uri}"):
        return retried(lambda: _delete_superseded(lake, before))


def _delete_superseded(lake: Lake, before: Column) -> int:
    create_views(lake)
    pair = ("batch", "pipeline_version")
    running = lake.runs().where(F.col("state") == F.lit("running"))
    in_work = running.select(F.explode("batches").alias("batch"), "pipeline_version")
    needed = lake.spark.table("captions_latest").select(*pair).union(in_work).distinct()
    youngest = lake.captions().groupBy(*pair).agg(F.max("captioned_at").alias("youngest"))
    old = youngest.where(F.col("youngest") < before).select(*pair)
    gone = old.join(needed, on=list(pair), how="left_anti").collect()
    if not gone:
        return 0
    batches = sorted({row.batch for row in gone})
    is_old = in_batches(F.col("old.batch"), batches) & (F.col("old.captioned_at") < before)
    frame = lake.spark.createDataFrame(gone, old.schema)
    return _delete(lake.spark, lake.captions_uri, frame, pair, is_old)


def delete_old_runs(lake: Lake, *, older_than_days: int) -> int:
    """Delete the rows of runs that ended so long ago, but for those that `captions_latest` needs.

    It needs, for each batch and pipeline version, the last run that succeeded.
    """
    before = F.lit(datetime.now(UTC) - timedelta(days=older_than_days))
    with reported_as(LakeError, f"Can't write {lake.runs_uri}"):
        runs = lake.runs()
        succeeded = runs.where(F.col("state") == F.lit("succeeded"))
        covered = succeeded.select(
            F.explode("batches").alias("batch"), "pipeline_version", "ended_at", "run_id"
        )
        last = covered.groupBy("batch", "pipeline_version").agg(
            F.max_by("run_id", F.struct("ended_at", "run_id")).alias("run_id")
        )
        old = runs.where(F.col("ended_at") < before).select("run_id")
        gone = old.join(last.select("run_id").distinct(), on="run_id", how="left_anti").collect()
        if not gone:
            return 0
        frame = lake.spark.createDataFrame(gone, old.schema)
        return retried(lambda: _delete(lake.spark, lake.runs_uri, frame, ("run_id",), F.lit(True)))


def _delete(
    spark: SparkSession, uri: str, gone: DataFrame, key: Sequence[str], within: Column
) -> int:
    """Delete the rows that have one of the keys; a conflict where another commit came first."""
    same = within
    for name in key:
        same = same & (F.col(f"old.{name}") == F.col(f"gone.{name}"))
    table = DeltaTable.forPath(spark, uri).alias("old")
    (result,) = (
        table.merge(gone.coalesce(1).alias("gone"), same).whenMatchedDelete().execute().collect()
    )
    return int(result["num_deleted_rows"])


def compact(spark: SparkSession, uri: str) -> int:
    """Make large files of a partition's small ones; return how many were replaced.

    A partition of one file, and a file of a gigabyte, is compact already and isn't touched. No
    reader notices: the rows stay the same.

    Raises:
        LakeError: the table can't be written.
    """
    with reported_as(LakeError, f"Can't write {uri}"):
        result = retried(lambda: DeltaTable.forPath(spark, uri).optimize().executeCompaction())
        return int(result.select("metrics.numFilesRemoved").first()[0])  # type: ignore[index]


def vacuum(spark: SparkSession, uri: str, *, retention_hours: float) -> None:
    """Delete the files that the table hasn't needed for so long, and the log that tells of them.

    Raises:
        LakeError: the table can't be written.
    """
    quick = spark.newSession()  # these are settings of the session
    # Delta's own check knows no shorter retention than a week; `jobs` refuses what isn't safe.
    quick.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    # Delta lists folders in this many tasks, ten thousand by default, of 5 ms each.
    tasks = str(4 * spark.sparkContext.defaultParallelism)
    quick.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", tasks)
    with reported_as(LakeError, f"Can't clean {uri}"):
        write_checkpoint(spark, uri)
        DeltaTable.forPath(quick, uri).vacuum(retention_hours)
