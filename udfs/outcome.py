"""What became of one file: the rows that workers send to the driver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

CAPTIONED, REJECTED, ALREADY_CAPTIONED = "captioned", "rejected", "already_captioned"
EXCLUDED = "excluded"

OUTCOME_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("image_id", pa.string()),
        ("read_bytes", pa.int64()),
        ("read_mtime", pa.timestamp("us", tz="UTC")),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("caption", pa.string()),
        ("score", pa.float64()),
        ("captioned_at", pa.timestamp("us", tz="UTC")),
        ("inferred", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    path: str
    image_id: str | None = None
    read_bytes: int | None = None
    read_mtime: datetime | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    status: str = REJECTED
    reason: str | None = None
    detail: str | None = None
    caption: str | None = None
    score: float | None = None
    captioned_at: datetime | None = None
    inferred: bool = False

    def for_twin(self, twin: Outcome) -> Outcome:
        """Return this result for another path with the same bytes."""
        return replace(
            self,
            path=twin.path,
            read_bytes=twin.read_bytes,
            read_mtime=twin.read_mtime,
            inferred=False,
        )
