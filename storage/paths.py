"""Paths as text: the one form that names a file in every table, and the batch it belongs to.

A path is Hadoop's fully qualified path (`file:/a/b.jpg`, `hdfs://host:8020/a/b.jpg`), not
percent-encoded and without user info, so that one file has one text however it was asked for. Local
names that are no UTF-8 are written as `conf.filesystem` says.
"""

from __future__ import annotations

import re

import pyarrow as pa
from pyspark.sql import SparkSession

from conf.errors import InputError
from conf.filesystem import from_here
from storage.hadoop import file_system, hadoop_path, reported_as

_GLOB_CHARACTERS = re.compile(r"[*?\[{\\]")
_HDFS_PORT = 8020
# In these schemes the part before the @ is the container, not a user.
_CONTAINER_SCHEMES = {"abfs", "abfss", "wasb", "wasbs"}


def qualify(spark: SparkSession, uri: str, *, env_local: bool) -> str:
    """Return the fully qualified text of a path or glob.

    Args:
        spark: the session whose Hadoop configuration names the default filesystem.
        uri: what the user gave; without a scheme it means the current directory where `env_local`
            is true, else the default filesystem.
        env_local: whether the job runs in the local environment.

    Raises:
        InputError: not a path, or of a filesystem that is unknown here.
    """
    text = from_here(uri) if env_local else uri
    with reported_as(InputError, f"{uri!r} isn't a usable path"):
        system = file_system(spark, text)
        home = system.getUri()
        absolute = hadoop_path(spark, text).makeQualified(home, system.getWorkingDirectory())
        target = absolute.toUri()
        scheme, authority = str(target.getScheme()), str(target.getAuthority() or "")
        nameservices = system.getConf().get("dfs.nameservices", "").split(",")
    if scheme == "file" and authority not in ("", "localhost"):
        raise InputError(
            f"{uri} names a machine {authority!r}.",
            remedy="Local URIs begin with file:/// or file:/.",
        )
    authority = _plain_authority(scheme, authority, nameservices)
    start = f"{scheme}://{authority}" if authority else f"{scheme}:"
    return start + str(target.getPath())


def is_local(path: str) -> bool:
    """Whether a qualified path lies on the machine's own filesystem."""
    return path.startswith("file:/")


def components(path: str) -> list[str]:
    """Return the names along a qualified path, without scheme and authority."""
    return [part for part in _without_authority(path).split("/") if part]


def parent_of(path: str) -> str:
    """Return the folder of a qualified path."""
    folder = path.rpartition("/")[0]
    return f"{folder}/" if folder.endswith(":") else folder


def batch_of(path: str, depth: int) -> str:
    """Return the batch of a file: its folder below the first `depth` components.

    A folder that is no deeper than `depth` counts whole, and the root folder is "/", so that a
    batch is never empty.
    """
    folder = components(path)[:-1]
    return "/".join(folder[depth:] or folder) or "/"


def batches_of(paths: pa.Array | pa.ChunkedArray, depth: int) -> pa.Array:
    """Return the batch of each path: string in, string out, same length."""
    known: dict[str, str] = {}
    batches = []
    for path in paths.to_pylist():
        folder = path[: path.rindex("/") + 1]
        if folder not in known:
            known[folder] = batch_of(path, depth)
        batches.append(known[folder])
    return pa.array(batches, pa.string())


def default_batch_depth(input_path: str) -> int:
    """Return how many leading components a new lake leaves out of its batches.

    Those of the input's parent, as far as they are no glob: `/landing/2026-11-23` and
    `/landing/2026-*` give 1, so that the batch is "2026-11-23".
    """
    parent = components(input_path)[:-1]
    return len(components(non_glob_prefix(input_path))[: len(parent)])


def non_glob_prefix(path: str) -> str:
    """Return the leading components of a qualified path that hold no glob character."""
    match = _GLOB_CHARACTERS.search(path)
    return path if match is None else path[: path.rindex("/", 0, match.start())] or "/"


def has_glob(path: str) -> bool:
    """Whether the path holds a character that Hadoop's globs give a meaning."""
    return _GLOB_CHARACTERS.search(path) is not None


def overlaps(one: str, other: str) -> bool:
    """Whether one of two qualified folders is the other or lies inside it."""
    first, second = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return first.startswith(second) or second.startswith(first)


def _without_authority(path: str) -> str:
    scheme_end = path.index(":") + 1
    rest = path[scheme_end:]
    return rest[rest.find("/", 2) :] if rest.startswith("//") else rest


def _plain_authority(scheme: str, authority: str, nameservices: list[str]) -> str:
    """Drop user info, and write HDFS's default port out unless the host is a nameservice."""
    if scheme == "file":
        return ""
    if scheme not in _CONTAINER_SCHEMES:
        authority = authority.rpartition("@")[2]
    if scheme != "hdfs" or not authority or authority in nameservices:
        return authority
    host, colon, port = authority.partition(":")
    return f"{host.lower()}:{port if colon else _HDFS_PORT}"
