"""Listing any Hadoop filesystem in a few trips to the JVM, however many files there are.

py4j pays about a tenth of a millisecond for each call, so asking each of 100,000 file statuses for
its path, length and time takes minutes. Here a level of the folder tree is one call: the folders go
in as one string, and the statuses come back as the bytes of Hadoop's own serialisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyspark.sql import SparkSession

from conf.filesystem import clamp_mtime
from storage.entries import FileEntry, is_hidden
from storage.hadoop import (
    JAVA_ERRORS,
    file_system,
    hadoop_path,
    is_java_error,
    java_class,
    java_strings,
)

FOLDERS_PER_CALL = 500  # bounds the JVM's memory


def stat_remote(spark: SparkSession, path: str) -> FileEntry | None:
    """Return the entry of a qualified path, or None where nothing is there."""
    try:
        status = file_system(spark, path).getFileStatus(hadoop_path(spark, path))
    except JAVA_ERRORS as error:
        if is_java_error(error, "FileNotFoundException"):
            return None
        raise
    folder, size = bool(status.isDirectory()), int(status.getLen())
    mtime_us = clamp_mtime(int(status.getModificationTime()) * 1000)
    return FileEntry(path, size, mtime_us, folder)


def glob_remote(spark: SparkSession, pattern: str) -> list[FileEntry]:
    """Return what matches Hadoop's glob, hidden names included; [] if nothing does."""
    statuses = file_system(spark, pattern).globStatus(hadoop_path(spark, pattern))
    return [] if statuses is None else _transfer(spark, statuses)


def walk_remote(spark: SparkSession, folder: str) -> Iterator[FileEntry]:
    """Yield every visible file below a qualified folder; a folder that vanishes is skipped.

    Raises:
        Py4JJavaError: a folder may not be listed, or the filesystem fails.
    """
    level = [folder]
    while level:
        deeper = []
        for start in range(0, len(level), FOLDERS_PER_CALL):
            for entry in _list_folders(spark, level[start : start + FOLDERS_PER_CALL]):
                if is_hidden(entry.name):
                    continue
                if entry.is_folder:
                    deeper.append(entry.path)
                else:
                    yield entry
        level = deeper


def _list_folders(spark: SparkSession, folders: Sequence[str]) -> list[FileEntry]:
    texts = java_class(spark, "org.apache.hadoop.util.StringUtils")
    paths = texts.stringToPath(java_strings(spark, folders))
    try:
        return _transfer(spark, file_system(spark, folders[0]).listStatus(paths))
    except JAVA_ERRORS as error:
        if not is_java_error(error, "FileNotFoundException"):
            raise
    if len(folders) == 1:
        return []
    return [entry for folder in folders for entry in _list_folders(spark, [folder])]


def _transfer(spark: SparkSession, statuses: Any) -> list[FileEntry]:
    """Bring a Java array of FileStatus over in one piece."""
    count = len(statuses)
    # py4j doesn't take FileStatus[] for Writable[], though Java does.
    gateway: Any = spark.sparkContext._gateway
    writables = gateway.new_array(java_class(spark, "org.apache.hadoop.io.Writable"), count)
    java_class(spark, "java.lang.System").arraycopy(statuses, 0, writables, 0, count)
    kind = java_class(spark, "java.lang.Class").forName("org.apache.hadoop.fs.FileStatus")
    buffer = java_class(spark, "java.io.ByteArrayOutputStream")()
    java_class(spark, "org.apache.hadoop.io.ArrayWritable")(kind, writables).write(
        java_class(spark, "java.io.DataOutputStream")(buffer)
    )
    return parse_statuses(bytes(buffer.toByteArray()))


def parse_statuses(data: bytes) -> list[FileEntry]:
    """Read the count and then, for each, the length and bytes of a `FileStatusProto`."""
    entries, position = [], 4
    for _ in range(int.from_bytes(data[:4], "big")):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        entries.append(_parse_status(data, position + 4, end))
        position = end
    return entries


def _parse_status(data: bytes, position: int, end: int) -> FileEntry:
    """Read fields 1 (type: 1 folder), 2 (path), 3 (length) and 7 (milliseconds) of the message."""
    kind = size = milliseconds = 0
    path = ""
    while position < end:
        tag, position = _varint(data, position)
        value, position = _varint(data, position)
        if tag & 7 == 2:  # length-delimited; all else in this message is a varint
            if tag >> 3 == 2:
                path = data[position : position + value].decode("utf-8")
            position += value
        elif tag >> 3 == 1:
            kind = value
        elif tag >> 3 == 3:
            size = value
        elif tag >> 3 == 7:
            milliseconds = value
            break
    return FileEntry(path, size, clamp_mtime(milliseconds * 1000), kind == 1)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
