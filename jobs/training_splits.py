"""Which pairs are for training and which for choosing, by lists of names or by the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf.errors import InputError
from conf.training import PairSettings
from jobs.training_pairs import DEV, TRAIN, Pairs, mark_skipped
from storage.hadoop import reported_as
from storage.paths import qualify

UNMATCHED = "name_only_in_split"


@dataclass(frozen=True)
class Chosen:
    """What the splits choose, and what they name in vain.

    Attributes:
        all_pairs: `name, path, content, captions, split`; split is null where bytes decide later.
        pairs: as many of them as `--limit` allows.
        skipped: `name, reason, detail` of what was asked for and can't be used.
    """

    all_pairs: DataFrame
    pairs: DataFrame
    skipped: DataFrame


def assign_splits(
    spark: SparkSession, pairs: Pairs, settings: PairSettings, *, env_local: bool
) -> Chosen:
    """Place each pair; with `--train-split`, what neither split names is left out uncounted."""
    listed = _read_splits(spark, settings, env_local=env_local)
    if listed is None:
        placed = pairs.usable.withColumn("split", F.lit(None).cast("string"))
        return Chosen(placed, _limited(placed, settings.limit), pairs.skipped)
    known = pairs.usable.select("name").union(pairs.skipped.select("name"))
    unmatched = mark_skipped(listed.join(known, on="name", how="left_anti"), UNMATCHED)
    usable, skipped = pairs.usable.join(listed, on="name", how="left"), pairs.skipped
    if settings.train_split is not None:
        usable = usable.where(F.col("listed_in").isNotNull())
        skipped = skipped.join(listed, on="name", how="left_semi")
    placed = _with_split(usable, settings)
    return Chosen(placed, _limited(placed, settings.limit), skipped.unionByName(unmatched))


def _with_split(pairs: DataFrame, settings: PairSettings) -> DataFrame:
    split = F.when(F.col("listed_in") == DEV, DEV)
    if settings.dev_split is not None:  # else the bytes of each photograph decide
        split = split.otherwise(TRAIN)
    return pairs.select("name", "path", "content", "captions", split.alias("split"))


def _read_splits(
    spark: SparkSession, settings: PairSettings, *, env_local: bool
) -> DataFrame | None:
    """`name, listed_in` of both files, each name once, or None where neither is given."""
    files = {TRAIN: settings.train_split, DEV: settings.dev_split}
    splits = [
        _read_names(spark, uri, env_local=env_local).withColumn("listed_in", F.lit(split))
        for split, uri in files.items()
        if uri is not None
    ]
    if not splits:
        return None
    # What is in both files is for choosing: "dev" is the lesser text.
    names = reduce(DataFrame.unionByName, splits).groupBy("name")
    return names.agg(F.min("listed_in").alias("listed_in"))


def _read_names(spark: SparkSession, uri: str, *, env_local: bool) -> DataFrame:
    qualified = qualify(spark, uri, env_local=env_local)
    with reported_as(InputError, f"Can't read the split {qualified}"):
        names = spark.read.text(qualified).select(F.trim("value").alias("name"))
        names = names.where(F.length("name") > 0).distinct()
        if names.isEmpty():
            raise InputError(f"The split {qualified} names nothing.", remedy="Check the file.")
    return names


def _limited(pairs: DataFrame, limit: int) -> DataFrame:
    if not limit:
        return pairs
    place = F.row_number().over(Window.partitionBy("split").orderBy("name"))
    return pairs.withColumn("place", place).where(F.col("place") <= limit).drop("place")
