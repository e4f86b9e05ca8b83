"""A Delta table on HDFS read by its log and Parquet files over WebHDFS: no Spark, no Delta library.

It reads the log's JSON files, which are kept for a month, and knows added and removed files: all
that this project's writers make.
"""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
from hdfs import InsecureClient

Row = dict[str, Any]


class DeltaOverHttp:
    """A table as it stood at `version`, which moves on one commit at a time."""

    def __init__(self, client: InsecureClient, table: str) -> None:
        self._client = client
        self._table = table
        self._files: dict[str, list[Row]] = {}
        self.version = -1

    @property
    def rows(self) -> list[Row]:
        """All rows of this version."""
        return [row for content in self._files.values() for row in content]

    def advance(self) -> list[Row] | None:
        """Go on to the next version and return the rows that it added, or None if there is none.

        Raises:
            HdfsError, RequestException: HDFS doesn't answer; nothing has changed.
        """
        log = f"{self._table}/_delta_log/{self.version + 1:020d}.json"
        if self._client.status(log, strict=False) is None:
            return None
        actions = [json.loads(line) for line in self._read(log).splitlines()]
        added = {name: self._fetch(name) for name in _names(actions, "add")}
        for name in _names(actions, "remove"):
            self._files.pop(name, None)
        self._files.update(added)
        self.version += 1
        return [row for rows in added.values() for row in rows]

    def to_the_end(self) -> list[Row]:
        """Go on to the newest version and return its rows."""
        while self.advance() is not None:
            pass
        return self.rows

    def _fetch(self, name: str) -> list[Row]:
        data = self._read(f"{self._table}/{unquote(name)}")
        rows: list[Row] = pq.ParquetFile(io.BytesIO(data)).read().to_pylist()
        return rows

    def _read(self, path: str) -> bytes:
        with self._client.read(path) as reader:
            content: bytes = reader.read()
        return content


def _names(actions: list[dict[str, Any]], kind: str) -> list[str]:
    return [action[kind]["path"] for action in actions if kind in action]
