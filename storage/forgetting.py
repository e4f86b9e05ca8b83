"""Withdrawing photographs: which bytes and paths belong together, and where they are named."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from errno import ENOTSUP
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.errors import InputError, LakeError
from conf.filesystem import local_path
from storage.exclusions import exclude
from storage.hadoop import JAVA_ERRORS, one_line, reported_as
from storage.lake import Lake
from storage.local_files import stat_local
from storage.paths import is_local
from storage.reading import UNREADABLE, BinaryReader, probe_unread
from storage.remote_files import stat_remote
from storage.runs import hide_in_arguments

MOST_BYTES = 2**31 - 2**16  # of a file that Spark can hold as one value


@dataclass(frozen=True)
class Withdrawal:
    """What a person asks to forget.

    Attributes:
        paths: qualified paths.
        images: image ids, hex SHA-256 of the bytes.
    """

    paths: frozenset[str]
    images: frozenset[str]


@dataclass(frozen=True)
class Withdrawn:
    """What a withdrawal could not do.

    Attributes:
        unknown: paths that no row has and where nothing lies: perhaps misspelt.
        unreadable: why the bytes at other paths can't be read now, so that copies under paths that
            no row has stay unknown.
    """

    unknown: frozenset[str]
    unreadable: Mapping[str, str]


def withdraw(lake: Lake, asked: Withdrawal, *, run_id: str) -> Withdrawn:
    """Put photographs on the exclusion list, and take their names out of the runs' arguments.

    A path stands for the bytes that its rows tell of and those that lie there now, so that no copy
    under another path is captioned. Bytes that can't be read keep nothing else from being done.

    Raises:
        InputError: a path is a folder.
        LakeError: the lake can't be read or written.
    """
    now = _images_now(lake.spark, asked.paths)
    images = asked.images | now.images
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        images |= _known(lake, "path", asked.paths, "image_id")
        with_rows = _known(lake, "path", asked.paths, "path")
        named = asked.paths | _known(lake, "image_id", images, "path")
    exclude(lake, paths=asked.paths, images=images, run_id=run_id)
    hide_in_arguments(lake, named)
    return Withdrawn(asked.paths - with_rows - now.there, now.unreadable)


def _known(lake: Lake, key: str, values: Collection[str], wanted: str) -> frozenset[str]:
    """Return the `wanted` column of the rows whose `key` is one of the values."""
    keys = lake.spark.createDataFrame([(value,) for value in values], f"{key} string")
    rows = lake.captions().join(F.broadcast(keys), on=key, how="left_semi")
    found = rows.select(wanted).where(F.col(wanted).isNotNull()).distinct().collect()
    return frozenset(row[0] for row in found)


class _Now(NamedTuple):
    """What lies at paths now: which of them exist, their image ids, and why others are unknown."""

    there: frozenset[str]
    images: frozenset[str]
    unreadable: dict[str, str]


def _images_now(spark: SparkSession, paths: Collection[str]) -> _Now:
    images: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    remote = []
    for path in sorted(paths):
        try:
            if not _is_there(spark, path):
                continue
            if is_local(path):
                images[path] = _local_image(path)
            else:
                remote.append(path)
        except OSError as error:
            unreadable[path] = error.strerror or type(error).__name__
        except JAVA_ERRORS as error:
            unreadable[path] = one_line(error)
    if remote:
        found, failures = _remote_images(spark, remote)
        images |= found
        unreadable |= failures
    there = frozenset([*images, *unreadable, *remote])
    return _Now(there, frozenset(images.values()), unreadable)


def _is_there(spark: SparkSession, path: str) -> bool:
    entry = stat_local(path) if is_local(path) else stat_remote(spark, path)
    if entry is not None and entry.is_folder:
        raise InputError(
            f"{path} is a folder.",
            remedy="Name each photograph, or list them with --forget-file.",
        )
    return entry is not None


def _local_image(path: str) -> str:
    file = Path(local_path(path))
    if not file.is_file():
        raise OSError(ENOTSUP, "no regular file")
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _remote_images(
    spark: SparkSession, paths: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return image ids by path, and why other files can't be read; an empty file is in neither.

    All are read at once and, only if that fails, one by one to tell which it was.
    """
    images: dict[str, str] = {}
    failures: dict[str, str] = {}
    try:
        reader = BinaryReader(spark, paths, max_file_bytes=MOST_BYTES)
    except JAVA_ERRORS as error:
        return images, dict.fromkeys(paths, one_line(error))
    try:
        images = _hashes(reader, paths)
    except JAVA_ERRORS:
        for path in paths:
            try:
                images |= _hashes(reader, [path])
            except JAVA_ERRORS as error:
                failures[path] = one_line(error)
    unread = [path for path in paths if path not in images and path not in failures]
    for path, (reason, detail) in probe_unread(spark, unread).items():
        if reason == UNREADABLE:
            failures[path] = detail
    return images, failures


def _hashes(reader: BinaryReader, paths: Sequence[str]) -> dict[str, str]:
    rows = reader.frame(paths, partitions=1).select("path", F.sha2("content", 256)).collect()
    return {row[0]: row[1] for row in rows}
