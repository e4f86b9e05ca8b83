"""The pandas UDF gives on Spark what the function gives, row by row."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from models.images import DecodeLimits, Preprocessed, preprocess_image
from tests.images.catalogue import good_files
from tests.images.encoding import pillow
from udfs.preprocess import PREPROCESSED, as_frame, preprocess_udf

SIZE = 16


def as_content(spark: SparkSession, contents: list[bytes | None], partitions: int = 2) -> DataFrame:
    rows = [(number, data) for number, data in enumerate(contents)]
    return spark.createDataFrame(rows, "number int, content binary").repartition(partitions)


def preprocess(frame: DataFrame, limits: DecodeLimits | None = None) -> list[Row]:
    udf = preprocess_udf(size=SIZE, limits=limits or DecodeLimits())
    done = frame.select("number", udf(F.col("content")).alias("image"))
    return [row.image for row in sorted(done.collect(), key=lambda row: row.number)]


def test_every_format_gives_the_function_s_own_pixels(spark: SparkSession) -> None:
    files = [file.data for file in good_files()]
    images = preprocess(as_content(spark, [*files]))
    expected = [preprocess_image(data, size=SIZE) for data in files]
    assert [np.frombuffer(image.pixels, np.uint8).tolist() for image in images] == [
        np.ravel(outcome.pixels).tolist() for outcome in expected if outcome.pixels is not None
    ]
    assert [tuple(image)[1:] for image in images] == [outcome[1:] for outcome in expected]


@pytest.mark.parametrize("rows_per_batch", [1, 2, 7, 1000])
def test_good_and_bad_rows_stay_beside_their_own_outcome(
    spark: SparkSession, rows_per_batch: int
) -> None:
    chance = random.Random(rows_per_batch)
    colours = [chance.randrange(256) if chance.random() < 0.6 else None for _ in range(60)]
    contents = [
        b"" if colour is None else pillow(np.full((9, 9), colour, np.uint8), "PNG")
        for colour in colours
    ]
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", rows_per_batch)
    try:
        images = preprocess(as_content(spark, [*contents]))
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert [None if image.pixels is None else image.pixels[0] for image in images] == colours
    assert [image.reason for image in images] == [
        "empty" if colour is None else None for colour in colours
    ]


def test_a_row_without_content_is_unreadable(spark: SparkSession) -> None:
    assert [image.reason for image in preprocess(as_content(spark, [None, b"text"]))] == [
        "unreadable",
        "not_an_image",
    ]


def test_limits_reach_the_workers(spark: SparkSession) -> None:
    data = pillow(np.zeros((9, 9), np.uint8), "PNG")
    images = preprocess(as_content(spark, [data]), DecodeLimits(max_pixels=80))
    assert images[0].reason == "too_large"


def test_the_result_has_the_documented_fields(spark: SparkSession) -> None:
    udf = preprocess_udf(size=SIZE)
    frame = as_content(spark, [b""]).select(udf(F.col("content")).alias("image"))
    assert frame.schema["image"].dataType == PREPROCESSED


def test_no_outcomes_are_a_frame_of_no_rows() -> None:
    assert as_frame([]).columns.tolist() == PREPROCESSED.names


def test_missing_sizes_are_null_not_zero() -> None:
    frame = as_frame([Preprocessed(None, None, None, None, "empty", "0 bytes")])
    assert pd.isna(frame.loc[0, "width"])
