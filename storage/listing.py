"""The input files of a run: every visible file below the input, listed once."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import SparkSession


def list_files(
    spark: SparkSession,
    input_path: str,
    *,
    include: str | None = None,
    require_success: bool = False,
    lake_uri: str | None = None,
) -> pa.Table:
    """Return every visible file below the input, sorted by path, each once.

    A name that exists is taken literally, even if it holds glob characters; else it is a glob.
    Hidden files and folders (`_*`, `.*`, `*._COPYING_`) below the input are left out.

    Args:
        spark: the session.
        input_path: qualified path (`storage.paths.qualify`) of a folder, a file or a glob.
        include: only file names that match this shell pattern (case matters).
        require_success: demand a `_SUCCESS` marker in each folder that the input names.
        lake_uri: qualified path of the lake, which must not overlap the input.

    Returns:
        A table of `storage.schemas.LISTING`. `mtime` of local files is `st_mtime_ns // 1000` µs;
        Hadoop filesystems give milliseconds.

    Raises:
        InputError: nothing there, no visible file, or a marker missing.
        LakeError: the lake overlaps the input.
    """
    raise NotImplementedError
