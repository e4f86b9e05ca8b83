"""The two views for analysts, as SQL for Spark and for DuckDB.

`captions_latest` has one row per path: of the pipeline version that the last succeeded run over
the path's batch used, so that a rollback to an earlier model shows at once. Where no run over the
batch has succeeded with a version that the path has, its newest row stands in.
"""

from __future__ import annotations

from storage.lake import Lake
from storage.schemas import CAPTIONS

_CAPTIONS_LATEST = """\
WITH covered AS (
  SELECT {unnest}(batches) AS batch, pipeline_version, ended_at
  FROM runs WHERE state = 'succeeded'
),
confirmed AS (
  SELECT batch, pipeline_version, max(ended_at) AS confirmed_at
  FROM covered GROUP BY batch, pipeline_version
),
ranked AS (
  SELECT captions.*, row_number() OVER (
    PARTITION BY captions.path
    ORDER BY confirmed_at DESC NULLS LAST, captioned_at DESC, captions.pipeline_version
  ) AS place
  FROM captions LEFT JOIN confirmed
  ON captions.batch = confirmed.batch AND captions.pipeline_version = confirmed.pipeline_version
)
SELECT {columns} FROM ranked WHERE place = 1"""

_REJECTS_BY_REASON = """\
SELECT batch, reason, count(*) AS files, min(path) AS example_path
FROM captions_latest WHERE status = 'rejected' GROUP BY batch, reason"""


def _views(unnest: str) -> dict[str, str]:
    latest = _CAPTIONS_LATEST.format(unnest=unnest, columns=", ".join(CAPTIONS.names))
    return {"captions_latest": latest, "rejects_by_reason": _REJECTS_BY_REASON}


SPARK_VIEWS = _views("explode")
"""Name → query over `captions` and `runs`, in the order in which they build on each other."""

DUCKDB_VIEWS = [
    f"CREATE OR REPLACE VIEW {name} AS {query}" for name, query in _views("unnest").items()
]
"""Statements for a DuckDB that knows the tables `captions` and `runs`."""


def create_views(lake: Lake) -> None:
    """Register `captions`, `runs`, `captions_latest` and `rejects_by_reason` as temporary views."""
    lake.captions().createOrReplaceTempView("captions")
    lake.runs().createOrReplaceTempView("runs")
    for name, query in SPARK_VIEWS.items():
        lake.spark.sql(query).createOrReplaceTempView(name)
