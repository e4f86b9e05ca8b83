"""Why photographs can't be read, and the refusal to train on what a failing storage leaves."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.errors import EnvironmentFault
from jobs.training_pairs import UNREAD
from models.reasons import Reason
from storage.reading import probe_unread

# Of the photographs that should be read, and at least. Shards are made once and no later start
# reads again what failed, so far less is borne than in captioning, which tries again each night.
OUTAGE_SHARE, OUTAGE_FILES = 0.005, 3
_FAILURES = (Reason.UNREADABLE.value, Reason.VANISHED.value)


def tell_unread(broken: DataFrame, *, max_file_bytes: int) -> DataFrame:
    """Return `name, reason, detail`, with the true reason of files that the reader left out."""
    spark = broken.sparkSession
    unread = broken.where(F.col("reason") == UNREAD)
    paths = [row.path for row in unread.select("path").collect()]
    told = probe_unread(spark, paths, max_file_bytes=max_file_bytes)
    rows = [(path, reason, detail) for path, (reason, detail) in told.items()]
    known = spark.createDataFrame(rows, "path string, told string, told_detail string")
    return broken.join(F.broadcast(known), on="path", how="left").select(
        "name",
        F.coalesce("told", "reason").alias("reason"),
        F.coalesce("told_detail", "detail").alias("detail"),
    )


def refuse_outage(broken: DataFrame, *, files: int) -> None:
    """Tell an outage from bad files: where many fail to be read, others may be lost with them.

    Files that this user may not read are no outage, however many.

    Args:
        broken: `name, reason, detail` of what couldn't be read or decoded.
        files: how many photographs were to be read.

    Raises:
        EnvironmentFault: the storage fails.
    """
    is_denied = F.lower(F.coalesce("detail", F.lit(""))).contains("permission")
    failing = broken.where(F.col("reason").isin(*_FAILURES) & ~is_denied)
    count = failing.count()
    if count >= OUTAGE_FILES and count > OUTAGE_SHARE * files:
        (one,) = failing.orderBy("reason", "name").take(1)
        raise EnvironmentFault(
            f"{count} of {files} photographs can't be read (for one, {one.name}: {one.detail}), "
            "so the storage is failing.",
            remedy="Run again when it is back; what is lost for good must leave the captions or "
            "the splits.",
        )
