"""Decoding and resizing as a pandas UDF.

For training data, inspection, and clusters that decode on CPU tasks and infer on GPU tasks. The
captioning job decodes and infers in one worker instead (`udfs.caption`); both call
`models.images.preprocess_image`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pandas as pd
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import BinaryType, IntegerType, StringType, StructField, StructType

from models.images import DEFAULT_LIMITS, DecodeLimits, Preprocessed
from models.reasons import Reason
from udfs.decoding import is_retry, preprocess_safely

# Fields of models.images.Preprocessed, in its order.
PREPROCESSED = StructType(
    [
        StructField("pixels", BinaryType()),
        StructField("width", IntegerType()),
        StructField("height", IntegerType()),
        StructField("format", StringType()),
        StructField("reason", StringType()),
        StructField("detail", StringType()),
    ]
)


def preprocess_udf(
    *, size: int, limits: DecodeLimits = DEFAULT_LIMITS
) -> Callable[[Column], Column]:
    """Return the pandas UDF: content binary to the struct PREPROCESSED.

    pixels is the raw bytes of uint8 [size, size, 3] RGB, null where reason says why. Keep Arrow
    batches small in rows: whole files come in (spark.sql.execution.arrow.maxBytesPerBatch).
    """

    def preprocess(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        isolated = is_retry()
        for contents in batches:
            yield as_frame(
                [
                    _preprocess(data, size=size, limits=limits, isolated=isolated)
                    for data in contents
                ]
            )

    # Annotations are text in this module, and Spark reads them to tell the kind of UDF.
    preprocess.__annotations__ = {
        "batches": Iterator[pd.Series],
        "return": Iterator[pd.DataFrame],
    }
    udf: Any = pandas_udf(preprocess, PREPROCESSED)  # type: ignore[call-overload]
    return cast("Callable[[Column], Column]", udf)


def as_frame(outcomes: list[Preprocessed]) -> pd.DataFrame:
    """Return one row for each outcome, in order, with the columns of PREPROCESSED."""
    rows = [
        (None if outcome.pixels is None else outcome.pixels.tobytes(), *outcome[1:])
        for outcome in outcomes
    ]
    frame = pd.DataFrame(rows, columns=PREPROCESSED.names)
    return frame.astype({"width": "Int32", "height": "Int32"})


def _preprocess(
    data: bytes | None, *, size: int, limits: DecodeLimits, isolated: bool
) -> Preprocessed:
    if data is None:
        return Preprocessed(None, None, None, None, Reason.UNREADABLE.value, "no content")
    return preprocess_safely(
        data, name=f"an image of {len(data)} bytes", size=size, limits=limits, isolated=isolated
    )
