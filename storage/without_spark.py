"""What is read without Spark, through delta-rs, which speaks to HDFS and object stores itself.

A second of Python instead of fifteen of Spark: for questions that a scheduler asks again and again.
HDFS is found as Hadoop's own client finds it, by the files in `HADOOP_CONF_DIR`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileType

from conf.errors import EnvironmentFault, UsageError
from conf.filesystem import from_here, has_scheme
from conf.settings import RUN_ID_PATTERN

# Beside what a path may hold, the separators of scheme, port and container.
_NOT_ESCAPED = "/:@"
_QUERY = "SELECT * FROM rows WHERE run_id = '{}'"
# Older files hold times as INT96, which would pass through nanoseconds: years 1677 to 2262.
_WHOLE_YEARS = "SET datafusion.execution.parquet.coerce_int96 = 'us'"


def resolve_uri(uri: str, *, env_local: bool) -> str:
    """Return a URI with a scheme, as `storage.paths.qualify` understands what the user gave.

    Without a scheme it means the current directory where `env_local` is true, else the default file
    system of Hadoop's configuration.

    Raises:
        UsageError: there is no default file system, or nothing says where in it a path begins.
        EnvironmentFault: Hadoop's configuration can't be read.
    """
    if env_local or has_scheme(uri):
        return from_here(uri)
    default = _default_file_system()
    if default is None or not uri.startswith("/"):
        raise UsageError(
            f"{uri} doesn't say on which file system it lies, nor does HADOOP_CONF_DIR.",
            remedy="Write the whole URI, such as hdfs:///landing.",
        )
    return default.rstrip("/") + uri


def _default_file_system() -> str | None:
    """Return `fs.defaultFS` of the `core-site.xml` in `HADOOP_CONF_DIR`; None without one."""
    site = Path(os.environ.get("HADOOP_CONF_DIR", "")) / "core-site.xml"
    if "HADOOP_CONF_DIR" not in os.environ or not site.is_file():
        return None
    try:
        entries = ET.parse(site).iter("property")  # noqa: S314  # the user's own
    except ET.ParseError as error:
        raise EnvironmentFault(f"{site} is no XML: {error}.") from error
    for entry in entries:
        if entry.findtext("name", "").strip() == "fs.defaultFS":
            return entry.findtext("value", "").strip() or None
    return None


def file_exists(folder: str, name: str) -> bool:
    """Whether a folder on any file system holds a file of this name.

    Raises:
        EnvironmentFault: the file system doesn't answer.
    """
    with _reported(folder):
        try:
            (found,) = DeltaStorageHandler(as_url(folder)).get_file_info([name])
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
            table = DeltaTable(as_url(f"{lake.rstrip('/')}/runs"))
        except TableNotFoundError as error:
            if "unknown scheme" in str(error).lower():
                raise EnvironmentFault(f"No file system for {lake}: {error}.") from error
            return None
        rows: list[dict[str, Any]] = query_rows(table, _QUERY.format(run_id)).read_all().to_pylist()
    return rows[0] if rows else None


def query_rows(table: DeltaTable, query: str) -> pa.RecordBatchReader:
    """Return what a query answers of the table, which it names `rows`; raises DeltaError."""
    engine = QueryBuilder().register("rows", table)
    pa.RecordBatchReader.from_stream(engine.execute(_WHOLE_YEARS)).read_all()
    # Not through Arrow's reader: its threads call Python, and abort it if it is just ending.
    return pa.RecordBatchReader.from_stream(engine.execute(query))


def as_url(uri: str) -> str:
    """Return a URI for delta-rs, which decodes %20: Hadoop takes characters as they are."""
    scheme, colon, rest = uri.partition(":")
    return f"{scheme}:{quote(rest, safe=_NOT_ESCAPED)}" if colon else uri


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, DeltaError, pa.ArrowException) as error:
        raise EnvironmentFault(
            f"Can't read {uri}: {' '.join(str(error).split())}.",
            remedy="Check the URI, the service and HADOOP_CONF_DIR.",
        ) from error
