"""Withdrawing photographs: which bytes and paths belong together, and where they are named."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.errors import InputError, LakeError
from conf.filesystem import local_path
from storage.exclusions import exclude
from storage.hadoop import reported_as
from storage.lake import Lake
from storage.local_files import stat_local
from storage.paths import is_local
from storage.reading import BinaryReader
from storage.remote_files import stat_remote
from storage.runs import hide_in_arguments


@dataclass(frozen=True)
class Withdrawal:
    """What a person asks to forget.

    Attributes:
        paths: qualified paths.
        images: image ids, hex SHA-256 of the bytes.
    """

    paths: frozenset[str]
    images: frozenset[str]


def withdraw(lake: Lake, asked: Withdrawal, *, run_id: str) -> None:
    """Put photographs on the exclusion list, and take their names out of the runs' arguments.

    A path stands for the bytes that its rows tell of and those that lie there now, so that no copy
    under another path is captioned.

    Raises:
        InputError: a path is a folder, or can't be read.
        LakeError: the lake can't be read or written.
    """
    images = asked.images | _images_now(lake.spark, asked.paths)
    with reported_as(LakeError, f"Can't read {lake.captions_uri}"):
        images |= _known(lake, "path", asked.paths, "image_id")
        named = asked.paths | _known(lake, "image_id", images, "path")
    exclude(lake, paths=asked.paths, images=images, run_id=run_id)
    hide_in_arguments(lake, named)


def _known(lake: Lake, key: str, values: Collection[str], wanted: str) -> frozenset[str]:
    """Return the `wanted` column of the rows whose `key` is one of the values."""
    keys = lake.spark.createDataFrame([(value,) for value in values], f"{key} string")
    rows = lake.captions().join(F.broadcast(keys), on=key, how="left_semi")
    found = rows.select(wanted).where(F.col(wanted).isNotNull()).distinct().collect()
    return frozenset(row[0] for row in found)


def _images_now(spark: SparkSession, paths: Collection[str]) -> frozenset[str]:
    """Return the image ids of the files that are at these paths now; of a missing one, none."""
    local = {path for path in paths if is_local(path)}
    remote = sorted(set(paths) - local)
    found = {_local_image(path) for path in local}
    if remote:
        _refuse_folders(spark, remote)
        contents = BinaryReader(spark, remote).frame(remote, partitions=1)
        with reported_as(InputError, "Can't read a photograph to forget"):
            found |= {row[0] for row in contents.select(F.sha2("content", 256)).collect()}
    return frozenset(image for image in found if image is not None)


def _refuse_folders(spark: SparkSession, paths: Collection[str]) -> None:
    with reported_as(InputError, "Can't read a photograph to forget"):
        for path in paths:
            entry = stat_remote(spark, path)
            if entry is not None and entry.is_folder:
                raise _folder_error(path)


def _local_image(path: str) -> str | None:
    entry = stat_local(path)
    if entry is None:
        return None
    if entry.is_folder:
        raise _folder_error(path)
    try:
        with Path(local_path(path)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Can't read {path} ({error.strerror}).") from error


def _folder_error(path: str) -> InputError:
    return InputError(
        f"{path} is a folder.", remedy="Name each photograph, or list them with --forget-file."
    )
