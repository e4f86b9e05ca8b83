"""The input files of a run: every visible file below the input, listed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.errors import InputError, LakeError
from conf.filesystem import LOCAL_SCHEME, text_of_local
from storage.entries import FileEntry, is_hidden
from storage.hadoop import reported_as
from storage.local_files import stat_local, walk_local
from storage.local_globs import glob_local
from storage.paths import components, has_glob, is_local, non_glob_prefix, overlaps, parent_of
from storage.remote_files import glob_remote, stat_remote, walk_remote
from storage.schemas import LISTING

SUCCESS_MARKER = "_SUCCESS"


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
    with _listing_errors(input_path):
        roots = _find_roots(spark, input_path)
        if lake_uri is not None:
            refuse_overlap([root.path for root in roots], lake_uri)
        if require_success:
            _demand_markers(spark, roots)
        files = [entry for root in roots for entry in _list_root(spark, root)]
    if include is not None:
        files = [entry for entry in files if fnmatchcase(entry.name, include)]
    if not files:
        which = f" whose name matches {include!r}" if include is not None else ""
        raise InputError(
            f"{input_path} holds no visible file{which}.",
            remedy="Names that begin with _ or . or end in ._COPYING_ don't count.",
        )
    return _as_table(files)


@contextmanager
def _listing_errors(input_path: str) -> Iterator[None]:
    """Report what any filesystem raises as an input that can't be listed."""
    with reported_as(InputError, f"Can't list {input_path}"):
        try:
            yield
        except OSError as error:
            raise InputError(
                f"Can't list {error.filename}: {error.strerror}.",
                remedy="Give this user the right to read the input.",
            ) from error


def refuse_overlap(roots: Sequence[str], lake_uri: str) -> None:
    """Raise LakeError where the lake lies in one of the input's roots, or a root in the lake."""
    for root in roots:
        if overlaps(root, lake_uri):
            raise LakeError(
                f"The lake {lake_uri} and the input {root} lie in one another.",
                remedy="Give --lake a folder outside the input.",
            )


def _find_roots(spark: SparkSession, input_path: str) -> list[FileEntry]:
    literal = _stat_as_given(spark, input_path)
    if literal is not None:
        return [literal]
    matches = _glob(spark, input_path) if has_glob(input_path) else []
    if not matches:
        what = "Nothing matches the input" if has_glob(input_path) else "There is no input"
        raise InputError(f"{what} {input_path}.", remedy="Check --input.")
    base = len(components(non_glob_prefix(input_path)))
    visible = [path for path in matches if not any(map(is_hidden, components(path)[base:]))]
    return [entry for path in visible if (entry := _stat(spark, path)) is not None]


def _glob(spark: SparkSession, pattern: str) -> list[str]:
    if is_local(pattern):
        return glob_local(spark, pattern)
    return [entry.path for entry in glob_remote(spark, pattern)]


def _stat_as_given(spark: SparkSession, path: str) -> FileEntry | None:
    """Stat what a person names: a local file by its own name, else by its text in the tables."""
    if not is_local(path):
        return stat_remote(spark, path)
    return stat_local(text_of_local(path.removeprefix(LOCAL_SCHEME))) or stat_local(path)


def _stat(spark: SparkSession, path: str) -> FileEntry | None:
    return stat_local(path) if is_local(path) else stat_remote(spark, path)


def _demand_markers(spark: SparkSession, roots: Sequence[FileEntry]) -> None:
    folders = {root.path if root.is_folder else parent_of(root.path) for root in roots}
    missing = [
        folder
        for folder in sorted(folders)
        if _stat(spark, f"{folder.rstrip('/')}/{SUCCESS_MARKER}") is None
    ]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{missing[0]}{more} has no {SUCCESS_MARKER} marker yet.",
            remedy="Wait until the batch is complete, or leave --require-success out.",
        )


def _list_root(spark: SparkSession, root: FileEntry) -> Iterator[FileEntry]:
    if not root.is_folder:
        return iter([root])
    return walk_local(root.path) if is_local(root.path) else walk_remote(spark, root.path)


def _as_table(files: Sequence[FileEntry]) -> pa.Table:
    by_path = {entry.path: entry for entry in files}  # a glob may name a folder and its parent
    ordered = [by_path[path] for path in sorted(by_path)]
    columns = [
        pa.array([entry.path for entry in ordered], pa.string()),
        pa.array([entry.size_bytes for entry in ordered], pa.int64()),
        pc.cast(pa.array([entry.mtime_us for entry in ordered], pa.int64()), LISTING.types[2]),
    ]
    return pa.table(columns, schema=LISTING)
