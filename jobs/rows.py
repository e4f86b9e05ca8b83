"""From what the workers returned to exactly one outcome for every listed file of a chunk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from models.reasons import Reason
from storage.schemas import OUTCOMES
from udfs.outcome import ALREADY_CAPTIONED, CAPTIONED, REJECTED

Row = dict[str, Any]
FROM_TWIN = ("width", "height", "format", "caption", "score")


def one_outcome_each(
    files: pa.Table,
    returned: Mapping[str, Row],
    *,
    unread: Mapping[str, tuple[str, str]],
    twins: Mapping[str, Row],
) -> pa.Table:
    """Return one row of `storage.schemas.OUTCOMES` per listed file, in the listing's order.

    Args:
        files: the chunk's files as listed.
        returned: what the workers returned, by path.
        unread: reason and detail of the paths that did not return.
        twins: rows `caption, score, …` of images that had a caption before, by image id.

    Raises:
        KeyError: a path neither returned nor has a reason, or a twin is missing: a bug.
    """
    rows = [_outcome(file, returned, unread, twins) for file in files.to_pylist()]
    return pa.Table.from_pylist(rows, OUTCOMES)


def _outcome(
    file: Row,
    returned: Mapping[str, Row],
    unread: Mapping[str, tuple[str, str]],
    twins: Mapping[str, Row],
) -> Row:
    path = file["path"]
    if path not in returned:
        return _rejected(path, *unread[path])
    row = returned[path]
    if _changed(file, row):
        return _rejected(path, Reason.CHANGED, "rewritten between listing and reading")
    outcome = {name: row[name] for name in OUTCOMES.names}
    if row["status"] == ALREADY_CAPTIONED:
        twin = twins[row["image_id"]]
        outcome |= {name: twin[name] for name in FROM_TWIN} | {"status": CAPTIONED}
    return outcome


def _rejected(path: str, reason: str, detail: str) -> Row:
    return {"path": path, "status": REJECTED, "reason": reason, "detail": detail}


def _changed(file: Row, row: Row) -> bool:
    size, mtime = row["read_bytes"], row["read_mtime"]
    if size is not None and size != file["file_size_bytes"]:
        return True
    return mtime is not None and _milliseconds(mtime) != _milliseconds(file["mtime"])


def _milliseconds(moment: datetime) -> int:
    """The finest resolution that every Hadoop file system keeps."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
