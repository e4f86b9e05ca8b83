"""Reading local files inside Spark, as a pandas UDF, for jobs that want the bytes as a column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pandas as pd
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import BinaryType, StringType, StructField, StructType

from udfs.sources import read_local

CONTENT = StructType(
    [
        StructField("content", BinaryType()),
        StructField("reason", StringType()),
        StructField("detail", StringType()),
    ]
)


def read_local_udf(*, max_bytes: int) -> Callable[[Column], Column]:
    """Return the pandas UDF: `file:` path to the struct CONTENT, null content where reason is."""

    def read(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for paths in batches:
            found = [read_local(path, max_bytes) for path in paths]
            rows = [(f.data, f.reason and f.reason.value, f.detail) for f in found]
            yield pd.DataFrame(rows, columns=CONTENT.names)

    # Annotations are text in this module, and Spark reads them to tell the kind of UDF.
    read.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    udf: Any = pandas_udf(read, CONTENT)  # type: ignore[call-overload]
    return cast("Callable[[Column], Column]", udf)
