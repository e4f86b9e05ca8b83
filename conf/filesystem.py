"""What listing and reading must agree on about a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Spark writes timestamps of the years 1 to 9999; a file may claim any.
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def clamp_mtime(microseconds: int) -> int:
    """Return a modification time, in µs since 1970 UTC, that a table can hold: years 1 to 9999."""
    return min(max(microseconds, EARLIEST_US), LATEST_US)


def mtime_of(microseconds: int) -> datetime:
    """Return the clamped modification time as a moment (UTC)."""
    return EPOCH + timedelta(microseconds=clamp_mtime(microseconds))
