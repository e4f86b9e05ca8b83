"""What is read without Spark, through delta-rs, which speaks to HDFS and object stores itself.

A second of Python instead of fifteen of Spark: for questions that a scheduler asks again and again.
HDFS is found as Hadoop's own client finds it, by the files in `HADOOP_CONF_DIR`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileType

from conf.errors import EnvironmentFault
from conf.settings import RUN_ID_PATTERN

# Beside what a path may hold, the separators of scheme, port and container.
_NOT_ESCAPED = "/:@"
_QUERY = "SELECT * FROM runs WHERE run_id = '{}'"


def file_exists(folder: str, name: str) -> bool:
    """Whether a folder on any file system holds a file of this name.

    Raises:
        EnvironmentFault: the file system doesn't answer.
    """
    with _reported(folder):
        try:
            (found,) = DeltaStorageHandler(_as_url(folder)).get_file_info([name])
        except TableNotFoundError as error:
            if folder.startswith(("/", "file:")):  # a local folder that isn't there
                return False
            raise EnvironmentFault(f"No file system for {folder}: {error}.") from error
    return bool(found.type == FileType.File)


def read_run(lake: str, run_id: str) -> dict[str, Any] | None:
    """Return the run's row of the table `runs`; None without a row or without a table.

    Raises:
        ValueError: such a run id can't be.
        EnvironmentFault: the file system doesn't answer.
    """
    if not RUN_ID_PATTERN.fullmatch(run_id):
        raise ValueError(f"not a run id: {run_id!r}")
    with _reported(lake):
        try:
            table = DeltaTable(_as_url(f"{lake.rstrip('/')}/runs"))
        except TableNotFoundError:
            return None
        # Not through Arrow's reader: its threads call Python, and abort it if it is just ending.
        found = QueryBuilder().register("runs", table).execute(_QUERY.format(run_id))
        rows: list[dict[str, Any]] = pa.RecordBatchReader.from_stream(found).read_all().to_pylist()
    return rows[0] if rows else None


def _as_url(uri: str) -> str:
    """Hadoop takes a path's characters as they stand, delta-rs decodes %20."""
    scheme, colon, rest = uri.partition(":")
    return f"{scheme}:{quote(rest, safe=_NOT_ESCAPED)}" if colon else uri


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"Can't read {uri}: {' '.join(str(error).split())}.",
            remedy="Check the URI, the service and HADOOP_CONF_DIR.",
        ) from error
