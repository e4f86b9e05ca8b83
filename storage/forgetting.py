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
    images = asked.images | {image for image in now.images.values() if image is not None}
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        images |= _known(lake, "path", asked.paths, "image_id")
        with_rows = _known(lake, "path", asked.paths, "path")
        named = asked.paths | _known(lake, "image_id", images, "path")
    exclude(lake, paths=asked.paths, images=images, run_id=run_id)
    hide_in_arguments(lake, named)
    unknown = asked.paths - with_rows - now.images.keys() - now.unreadable.keys()
    return Withdrawn(unknown, now.unreadable)


def _known(lake: Lake, key: str, values: Collection[str], wanted: str) -> frozenset[str]:
    """Return the `wanted` column of the rows whose `key` is one of the values."""
    keys = lake.spark.createDataFrame([(value,) for value in values], f"{key} string")
    rows = lake.captions().join(F.broadcast(keys), on=key, how="left_semi")
    found = rows.select(wanted).where(F.col(wanted).isNotNull()).distinct().collect()
    return frozenset(row[0] for row in found)


class _Now(NamedTuple):
    """What lies at paths now: image ids (None of a file without bytes), or why they are unknown."""

    images: dict[str, str | None]
    unreadable: dict[str, str]


def _images_now(spark: SparkSession, paths: Collection[str]) -> _Now:
    now = _Now({}, {})
    for path in sorted(paths):
        try:
            entry = stat_local(path) if is_local(path) else stat_remote(spark, path)
            if entry is not None and entry.is_folder:
                raise InputError(
                    f"{path} is a folder.",
                    remedy="Name each photograph, or list them with --forget-file.",
                )
            if entry is not None:
                now.images[path] = _local_image(path) if is_local(path) else None
        except OSError as error:
            now.unreadable[path] = error.strerror or type(error).__name__
        except JAVA_ERRORS as error:
            now.unreadable[path] = one_line(error)
    remote = [path for path in now.images if not is_local(path)]
    if remote:
        _read_remote(spark, remote, now)
    return now


def _local_image(path: str) -> str:
    file = Path(local_path(path))
    if not file.is_file():
        raise OSError(ENOTSUP, "no regular file")
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read_remote(spark: SparkSession, paths: Sequence[str], now: _Now) -> None:
    """Read all at once and, if that fails, one by one to tell which it was."""
    try:
        now.images.update(_remote_images(spark, paths))
    except JAVA_ERRORS as error:
        if len(paths) > 1:
            for path in paths:
                _read_remote(spark, [path], now)
            return
        now.unreadable[paths[0]] = one_line(error)
    for path in paths:
        if now.images[path] is None and path not in now.unreadable:
            ((reason, detail),) = probe_unread(spark, [path]).values()
            if reason == UNREADABLE:
                now.unreadable[path] = detail
    for path in now.unreadable.keys() & now.images.keys():
        del now.images[path]


def _remote_images(spark: SparkSession, paths: Sequence[str]) -> dict[str, str]:
    reader = BinaryReader(spark, paths, max_file_bytes=MOST_BYTES)
    rows = reader.frame(paths, partitions=1).select("path", F.sha2("content", 256)).collect()
    return {row[0]: row[1] for row in rows}
