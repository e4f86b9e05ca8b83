"""The Spark job that tutorials show: binaryFile, a pandas UDF that decodes, one that predicts.

The model is loaded by the iterator of each partition, as the tutorials' "load once" does, and
partitions are the ones that Spark makes. Writes a Delta table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from benchmarks.shared.contest import Contest, decode, parse_contest
from conf.settings import REPOSITORY
from models.package import open_package

ANSWER = "caption string, score double"


def main() -> None:
    """Caption everything."""
    contest = parse_contest()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = session()
    size = open_package(contest.model).config.image_size
    with contest.clock():
        files = spark.read.format("binaryFile").load(str(contest.photographs))
        decoded = files.select("path", decoding(size)("content").alias("pixels"))
        said = decoded.select("path", captioning(contest, size)("pixels").alias("said"))
        rows = said.select("path", "said.*")
        rows.write.format("delta").save(str(contest.scratch / "captions"))
    spark.stop()


def session() -> SparkSession:
    """A session with Delta and Spark's own defaults."""
    jars = sorted(Path(REPOSITORY, "jars").glob("*.jar"))
    builder = SparkSession.builder.master("local[*]").appName("naive")
    for name, value in {
        "spark.jars": ",".join(map(str, jars)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.ui.enabled": "false",
        "spark.driver.memory": "2g",
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def decoding(size: int) -> Any:
    """The pandas UDF from encoded bytes to pixels."""

    def decode_all(content: pd.Series) -> pd.Series:
        return content.map(lambda data: decode(data, size=size).tobytes())

    return _as_udf(decode_all, "binary", argument=pd.Series, returned=pd.Series)


def captioning(contest: Contest, size: int) -> Any:
    """The pandas UDF from pixels to captions; loads the model for each partition."""

    def caption_all(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        model = contest.load_model()
        for batch in batches:
            pixels = np.stack([np.frombuffer(data, np.uint8) for data in batch])
            captions, scores = model.caption(pixels.reshape(-1, size, size, 3))
            yield pd.DataFrame({"caption": captions, "score": scores})

    return _as_udf(
        caption_all, ANSWER, argument=Iterator[pd.Series], returned=Iterator[pd.DataFrame]
    )


def _as_udf(function: Any, kind: str, *, argument: Any, returned: Any) -> Any:
    """Annotations are text in this module, and Spark reads them to tell the kind of UDF."""
    name = function.__code__.co_varnames[0]
    function.__annotations__ = {name: argument, "return": returned}
    return pandas_udf(function, kind)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
