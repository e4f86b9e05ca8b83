"""The two views for analysts, as SQL text for Spark and for DuckDB."""

from __future__ import annotations

from storage.lake import Lake


def create_views(lake: Lake) -> None:
    """Register `captions`, `runs`, `captions_latest` and `rejects_by_reason` as temporary views."""
    raise NotImplementedError
