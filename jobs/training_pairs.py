"""Photographs and captions brought together in Spark, with a reason for each that can't be used.

Every frame here is small in memory: pixels stay in Spark until shards are written from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.errors import InputError, UsageError
from conf.training import PairSettings
from models.reasons import Reason
from storage.hadoop import reported_as
from storage.listing import list_files
from storage.paths import is_local, qualify
from storage.reading import BinaryReader
from udfs.preprocess import preprocess_udf
from udfs.reading import read_local_udf

TRAIN, DEV = "train", "dev"
NO_IMAGE, NO_CAPTION = "caption_without_image", "image_without_caption"
AMBIGUOUS, MALFORMED = "name_occurs_twice", "malformed_line"
UNREAD = "unread"  # the reader left it out and doesn't say why: see `jobs.training_unread`
PAIR_TYPES = {"path": "string", "content": "binary", "captions": "array<string>"}
ROWS_AT_ONCE = 64
_IMAGE_NAME = re.compile(r"[^/]*$")


@dataclass(frozen=True)
class Pairs:
    """What training has to work with.

    Attributes:
        usable: `name, path, content, captions`; content is null where `path` is to be read.
        skipped: `name, reason, detail` of what doesn't fit together.
    """

    usable: DataFrame
    skipped: DataFrame


def read_pairs(spark: SparkSession, settings: PairSettings, *, env_local: bool) -> Pairs:
    """Join photographs and captions as the settings name them.

    Raises:
        UsageError: neither a table nor a folder with a caption file is given.
        InputError: one of them is missing, empty or of another form.
    """
    if settings.pairs is not None:
        uri, root = (qualify(spark, one, env_local=env_local) for one in (settings.pairs, "/"))
        return _read_table(spark, uri, root=root)
    if settings.images is None or settings.captions is None:
        raise UsageError("--images and --captions must be given.", remedy="Or --pairs; see --help.")
    images = _read_images(spark, qualify(spark, settings.images, env_local=env_local))
    lines = _read_lines(spark, qualify(spark, settings.captions, env_local=env_local))
    return _join(images, lines)


def _read_table(spark: SparkSession, uri: str, *, root: str) -> Pairs:
    table = _open_table(spark, uri)
    _check_columns(dict(table.dtypes), uri)
    captions = F.filter("captions", lambda text: F.length(F.trim(text)) > 0)
    name = F.coalesce("path", F.lit(""))
    path = _qualified(name, root).alias("path")
    rows = table.select(name.alias("name"), path, "content", captions.alias("captions"))
    twice = rows.groupBy("name").count().where(F.col("count") > 1).select("name")
    # Marked as small: else Spark would sort all photographs to join them.
    unique = rows.join(F.broadcast(twice), on="name", how="left_anti")
    has_captions = F.coalesce(F.size("captions"), F.lit(0)) > 0
    without = mark_skipped(unique.where(~has_captions), NO_CAPTION)
    return Pairs(unique.where(has_captions), without.unionByName(mark_skipped(twice, AMBIGUOUS)))


def _open_table(spark: SparkSession, uri: str) -> DataFrame:
    # Else 4096 photographs are unpacked at once, beside the row group that they come from.
    session = spark.newSession()
    session.conf.set("spark.sql.parquet.columnarReaderBatchSize", str(ROWS_AT_ONCE))
    with reported_as(InputError, f"{uri} isn't a readable table", remedy="Check --pairs."):
        is_delta = any(f.startswith("_delta_log") for f in _names(spark, uri))
        return session.read.format("delta" if is_delta else "parquet").load(uri)


def _check_columns(found: Mapping[str, str], uri: str) -> None:
    """Raise InputError unless the table has the columns of pairs, each of its type."""
    remedy = "It needs path (text), content (binary) and captions (array of text)."
    if missing := sorted(PAIR_TYPES.keys() - found.keys()):
        raise InputError(f"The table {uri} has no column {', '.join(missing)}.", remedy=remedy)
    wrong = [
        f"{name} is of type {found[name]}, not {kind}"
        for name, kind in PAIR_TYPES.items()
        if found[name] != kind
    ]
    if wrong:
        raise InputError(f"In the table {uri} {', '.join(wrong)}.", remedy=remedy)


def _qualified(path: Column, root: str) -> Column:
    """Absolute paths as the lists of withdrawn photographs write them; others stay as they are."""
    usual = F.regexp_replace(path, "^file:/+", "file:/")
    return F.when(path.startswith("/"), F.concat(F.lit(root.rstrip("/")), path)).otherwise(usual)


def _names(spark: SparkSession, uri: str) -> list[str]:
    from storage.hadoop import file_system, hadoop_path

    return [
        str(status.getPath().getName())
        for status in file_system(spark, uri).listStatus(hadoop_path(spark, uri))
    ]


def _read_images(spark: SparkSession, uri: str) -> DataFrame:
    paths = list_files(spark, uri).column("path").to_pylist()
    rows = [(_IMAGE_NAME.search(path).group(), path) for path in paths]  # type: ignore[union-attr]
    frame = spark.createDataFrame(rows, "name string, path string")
    return frame.groupBy("name").agg(F.min("path").alias("path"), F.count("*").alias("copies"))


def _read_lines(spark: SparkSession, uri: str) -> DataFrame:
    with reported_as(InputError, f"Can't read the captions {uri}", remedy="Check --captions."):
        lines = spark.read.text(uri)
        if lines.isEmpty():
            raise InputError(f"The caption file {uri} is empty.", remedy="Check --captions.")
    parts = F.split("value", "\t", 2)
    return lines.select(
        F.trim(F.get(parts, F.lit(0))).alias("name"),
        F.trim(F.get(parts, F.lit(1))).alias("caption"),
        F.monotonically_increasing_id().alias("place"),
    )


def _join(images: DataFrame, lines: DataFrame) -> Pairs:
    is_whole = F.coalesce(F.length("caption"), F.lit(0)) > 0
    in_order = F.sort_array(F.collect_list(F.struct("place", "caption")))
    captions = lines.where(is_whole).groupBy("name").agg(in_order["caption"].alias("captions"))
    joined = images.join(captions, on="name", how="full")
    unique = F.col("copies") == 1
    usable = joined.where(unique & F.col("captions").isNotNull())
    problems = (
        mark_skipped(lines.where(~is_whole), MALFORMED),
        mark_skipped(joined.where(F.col("path").isNull()), NO_IMAGE),
        mark_skipped(joined.where(F.col("captions").isNull()), NO_CAPTION),
        mark_skipped(
            joined.where((F.col("copies") > 1) & F.col("captions").isNotNull()), AMBIGUOUS
        ),
    )
    skipped = problems[0]
    for problem in problems[1:]:
        skipped = skipped.unionByName(problem)
    content = F.lit(None).cast("binary").alias("content")
    return Pairs(usable.select("name", "path", content, "captions"), skipped)


def mark_skipped(frame: DataFrame, reason: str) -> DataFrame:
    """Return `name, reason, detail` of each row, the reason being the same for all."""
    return frame.select("name", F.lit(reason).alias("reason"), F.lit("").alias("detail"))


def with_content(spark: SparkSession, pairs: DataFrame, settings: PairSettings) -> DataFrame:
    """Fill `content` where only the path is known; `reason` and `detail` say why not."""
    if settings.pairs is not None:
        return _bounded(pairs, settings)
    paths = [row.path for row in pairs.select("path").collect()]
    partitions = max(1, -(-len(paths) // settings.partition_files))
    known = pairs.drop("content")
    if not paths or is_local(paths[0]):
        read = read_local_udf(max_bytes=settings.max_file_bytes)(F.col("path"))
        spread = known.repartitionByRange(partitions, "split", "name")
        return spread.withColumn("read", read).select(*known.columns, "read.*")
    contents = BinaryReader(spark, paths, max_file_bytes=settings.max_file_bytes).frame(
        paths, partitions=partitions
    )
    unread = F.col("content").isNull()
    # Partitions of a stated size: Spark's own few would each hold gigabytes.
    spread = contents.select("path", "content").repartition(partitions, "path")
    joined = known.repartition(partitions, "path").join(spread, on="path", how="left")
    reason = F.when(unread, UNREAD).alias("reason")
    return joined.select(*known.columns, "content", reason, F.lit("").alias("detail"))


def _bounded(pairs: DataFrame, settings: PairSettings) -> DataFrame:
    """Rows of a table, no larger and no more of them in a partition than the settings allow.

    They are dealt out in turn: Spark's own partitions of a table hold 128 MB of photographs each.
    """
    partitions = max(1, -(-pairs.count() // settings.partition_files))
    columns = [name for name in pairs.columns if name != "content"]
    size = F.length("content")
    fits = F.coalesce(size <= settings.max_file_bytes, F.lit(True))
    detail = F.concat(size, F.lit(f" bytes, limit {settings.max_file_bytes}"))
    return pairs.select(
        *columns,
        F.when(fits, F.col("content")).alias("content"),
        F.when(~fits, Reason.TOO_LARGE.value).alias("reason"),
        F.when(~fits, detail).otherwise("").alias("detail"),
    ).repartition(partitions)


def with_pixels(contents: DataFrame, settings: PairSettings, *, image_size: int) -> DataFrame:
    """`name, path, captions, split, pixels, reason, detail`, by the function that serves as well.

    A photograph without a split yet gets one by the hash of its bytes.
    """
    share = F.conv(F.substring(F.sha2("content", 256), 1, 8), 16, 10).cast("double") / 2**32
    by_hash = F.when(share < settings.dev_share, DEV).otherwise(TRAIN)
    # An unread file goes through as empty bytes, since a UDF can't skip rows.
    image = preprocess_udf(size=image_size)(F.coalesce("content", F.lit(b"")))
    split = F.coalesce("split", F.when(F.col("content").isNotNull(), by_hash))
    decoded = contents.withColumn("image", image)
    return decoded.select(
        "name",
        "path",
        "captions",
        split.alias("split"),
        F.col("image.pixels").alias("pixels"),
        _first("reason").alias("reason"),
        _first("detail").alias("detail"),
    )


def _first(column: str) -> Column:
    """What the reading says, else what the decoding says."""
    return F.coalesce(F.col(column), F.col(f"image.{column}"))
