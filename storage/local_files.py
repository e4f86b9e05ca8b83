"""Listing the machine's own filesystem, without the JVM."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from conf.filesystem import clamp_mtime, local_path, text_of_local
from storage.entries import FileEntry, is_hidden

FileIdentity = tuple[int, int]


def stat_local(path: str) -> FileEntry | None:
    """Return the entry of a qualified local path, or None where nothing is there."""
    try:
        return _entry(path, Path(local_path(path)).stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def walk_local(folder: str) -> Iterator[FileEntry]:
    """Yield every visible file below a qualified local folder; a folder that vanishes is skipped.

    Links are followed as Hadoop does, except one that leads back to a folder around it. A link to
    nowhere is yielded as it is, so that reading it tells what is wrong. Pipes, sockets and devices
    are no files.

    Raises:
        OSError: a folder may not be listed.
    """
    waiting: list[tuple[str, frozenset[FileIdentity]]] = [(local_path(folder), frozenset())]
    while waiting:
        current, around = waiting.pop()
        try:
            itself = _identity(current)
            found = [] if itself in around else list(os.scandir(current))
        except FileNotFoundError:
            continue
        for item in found:
            if is_hidden(item.name) or (status := _status(item)) is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append((item.path, around | {itself}))
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield _entry(text_of_local(item.path), status)


def _status(item: os.DirEntry[str]) -> os.stat_result | None:
    """Stat what the name leads to, else the dead link itself, else None: it vanished."""
    try:
        return item.stat()
    except OSError:
        try:
            return item.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None


def _identity(folder: str) -> FileIdentity:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def _entry(path: str, status: os.stat_result) -> FileEntry:
    mtime_us = clamp_mtime(status.st_mtime_ns // 1000)
    return FileEntry(path, status.st_size, mtime_us, stat.S_ISDIR(status.st_mode))
