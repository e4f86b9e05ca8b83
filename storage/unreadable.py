"""Which files made a read fail as a whole, told apart from a storage that is failing.

Spark leaves out a file that has vanished, but a file that may not be opened, or whose blocks are
lost, fails the job. Such files are found here, so that the others can be read without them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from pyspark.sql import SparkSession

from conf.errors import EnvironmentFault
from storage.hadoop import (
    JAVA_ERRORS,
    causes,
    failure_to_read,
    file_system,
    hadoop_path,
    is_java_error,
    java_class,
    one_line,
)

_BLAMED = re.compile(r"FAILED_READ_FILE.*? reading file (?P<uri>\S+)\.\s")
_OTHERS_TRIED = 2
_ALL = 2**63 - 1  # bytes


def unreadable_among(
    spark: SparkSession, paths: Sequence[str], error: BaseException, *, witnesses: Sequence[str]
) -> set[str]:
    """Return the files among `paths` that the failed read stumbled over.

    Where access was denied, these are all files that this user may not read; else the one file
    that the error names and all with a lost block, provided that others can be read: of `paths`
    or, where all of them are bad, of `witnesses`, which could be read a moment ago.

    Raises:
        EnvironmentFault: the read failed for another reason, or no other file can be read either.
    """
    blamed = _blamed_path(error)
    if blamed not in paths:
        raise EnvironmentFault(
            f"A chunk failed and was not committed: {one_line(error)}.",
            remedy="Finished chunks stay; run the same command again.",
        ) from error
    if is_java_error(error, "AccessControlException"):
        return {blamed, *(path for path in paths if _is_denied(spark, path))}
    bad = {blamed, *(path for path in paths if _has_lost_block(spark, path))}
    others = [path for path in paths if path not in bad] or witnesses
    is_one_of_many = len(paths) + len(witnesses) > 1
    if is_one_of_many and all(_fails_to_open(spark, path) for path in others[:_OTHERS_TRIED]):
        raise EnvironmentFault(
            f"The storage is failing, not one file: {one_line(error)}.",
            remedy="Nothing of this chunk was committed; run again when the storage is back.",
        ) from error
    return bad


def _blamed_path(error: BaseException) -> str:
    for _, message in causes(error):
        if match := _BLAMED.search(message):
            return unquote(match["uri"])
    return ""


def _is_denied(spark: SparkSession, path: str) -> bool:
    """Ask the filesystem for the permission alone, which opens nothing."""
    read = java_class(spark, "org.apache.hadoop.fs.permission.FsAction").READ
    try:
        file_system(spark, path).access(hadoop_path(spark, path), read)
    except JAVA_ERRORS as error:
        return is_java_error(error, "AccessControlException")
    return False


def _has_lost_block(spark: SparkSession, path: str) -> bool:
    """Ask the filesystem where the blocks are, which opens nothing."""
    try:
        blocks = file_system(spark, path).getFileBlockLocations(hadoop_path(spark, path), 0, _ALL)
    except JAVA_ERRORS:
        return False  # it may have vanished; the read itself decides
    return any(block.isCorrupt() or not len(block.getHosts()) for block in blocks)


def _fails_to_open(spark: SparkSession, path: str) -> bool:
    error = failure_to_read(spark, path)
    return error is not None and not is_java_error(error, "FileNotFoundException")
