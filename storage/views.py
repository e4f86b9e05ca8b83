"""The views for analysts, as SQL text over the tables `captions` and `runs`.

`captions_latest`: per path, the row of the pipeline version that the last succeeded run over the
path's batch used, so that a rollback of the model shows at once. `rejects_by_reason`: those rows'
rejects, counted per batch and reason. Spark and DuckDB differ only in how they unfold an array.
"""

from __future__ import annotations

from storage.lake import Lake

_CAPTIONS_LATEST = """
SELECT captions.*
FROM captions
JOIN (
    SELECT batch, pipeline_version,
           row_number() OVER (PARTITION BY batch ORDER BY ended_at DESC, run_id DESC) AS age
    FROM ({unfolded}) AS covered
) AS valid
  ON captions.batch = valid.batch AND captions.pipeline_version = valid.pipeline_version
WHERE valid.age = 1
"""
_UNFOLDED = """
SELECT {unfold}(batches) AS batch, pipeline_version, ended_at, run_id
FROM runs WHERE state = 'succeeded' AND job = 'caption_images'
"""
_REJECTS_BY_REASON = """
SELECT batch, reason, count(*) AS files
FROM captions_latest WHERE status = 'rejected'
GROUP BY batch, reason
"""


def _views(*, unfold: str) -> dict[str, str]:
    latest = _CAPTIONS_LATEST.format(unfolded=_UNFOLDED.format(unfold=unfold))
    return {"captions_latest": latest, "rejects_by_reason": _REJECTS_BY_REASON}


SPARK_VIEWS = _views(unfold="explode")
"""Each view's query by its name, in the order in which they build on each other, for Spark SQL."""

DUCKDB_VIEWS = [
    f"CREATE OR REPLACE VIEW {name} AS {query}" for name, query in _views(unfold="unnest").items()
]
"""Statements that create the views in a DuckDB that knows the tables `captions` and `runs`."""


def create_views(lake: Lake) -> None:
    """Register `captions`, `runs`, `captions_latest` and `rejects_by_reason` as temporary views."""
    lake.captions().createOrReplaceTempView("captions")
    lake.runs().createOrReplaceTempView("runs")
    for name, query in SPARK_VIEWS.items():
        lake.spark.sql(query).createOrReplaceTempView(name)
