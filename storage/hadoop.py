"""The few Hadoop calls that have no Spark API, each in a fixed number of trips to the JVM."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from py4j.java_gateway import JavaClass
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from conf.errors import CaptionlakeError

JAVA_ERRORS = (Py4JError, PySparkException)
"""What Spark, Delta and Hadoop raise in Python, or the bridge to them when the JVM is gone."""
_WITH_CHECKSUMS = "org.apache.hadoop.fs.LocalFileSystem"
_CLASS_PREFIX = re.compile(r"^(?:[\w$]+\.)+(?P<name>[\w$]+): ")
_TRACEBACK = "Traceback (most recent call last)"
_CONDITION_PREFIX = re.compile(r"^\[[A-Z0-9_.]+\] ")


def java_class(spark: SparkSession, name: str) -> Any:
    """Return a class of the driver's JVM by its full name, such as `java.util.ArrayList`.

    Of `spark._jvm.java.util.ArrayList` py4j asks for each part of the name, and the JVM looks for
    `java` and `java.util` as classes in every jar: two milliseconds for what needs no trip at all.
    """
    gateway: Any = spark.sparkContext._gateway
    return JavaClass(name, gateway._gateway_client)


def hadoop_path(spark: SparkSession, path: str) -> Any:
    """Return the text as an org.apache.hadoop.fs.Path."""
    return java_class(spark, "org.apache.hadoop.fs.Path")(path)


def file_system(spark: SparkSession, path: str) -> Any:
    """Return the file system that holds the path."""
    return hadoop_path(spark, path).getFileSystem(_configuration(spark))


def path_exists(spark: SparkSession, path: str) -> bool:
    """Whether a file or folder of exactly this name exists."""
    return bool(file_system(spark, path).exists(hadoop_path(spark, path)))


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Write a small UTF-8 file, in place of what is there."""
    stream = file_system(spark, path).create(hadoop_path(spark, path), True)
    _write(stream, text.encode("utf-8"))


def file_creator(spark: SparkSession, folder: str) -> Callable[[str, bytes], None]:
    """Return what writes a new file of a few MB at most, given its path in the folder and bytes."""
    system, base = file_system(spark, folder), hadoop_path(spark, folder)
    with_checksums = java_class(spark, "java.lang.Class").forName(_WITH_CHECKSUMS)
    if with_checksums.isInstance(system):
        # With checksums, a file that can't be written, on a full disk say, would stay open.
        system = system.getRawFileSystem()
    path = java_class(spark, "org.apache.hadoop.fs.Path")

    def create(name: str, data: bytes) -> None:
        _write(system.create(path(base, name), False), data)

    return create


def _write(stream: Any, data: bytes) -> None:
    try:
        stream.write(bytearray(data))
    finally:
        stream.close()


def read_text(spark: SparkSession, path: str) -> str | None:
    """Return a small UTF-8 file's text without a byte order mark; None if there is no such file.

    Raises:
        UnicodeDecodeError: it is of another encoding.
    """
    try:
        stream = file_system(spark, path).open(hadoop_path(spark, path))
    except JAVA_ERRORS as error:
        if is_java_error(error, "FileNotFoundException"):
            return None
        raise
    try:
        return bytes(stream.readAllBytes()).decode("utf-8-sig")
    finally:
        stream.close()


def read_start(spark: SparkSession, path: str, most_bytes: int) -> str:
    """Return the text of a UTF-8 file's first bytes; empty if there is no such file."""
    try:
        stream = file_system(spark, path).open(hadoop_path(spark, path))
    except JAVA_ERRORS as error:
        if is_java_error(error, "FileNotFoundException"):
            return ""
        raise
    try:
        return bytes(stream.readNBytes(most_bytes)).decode("utf-8", errors="ignore")
    finally:
        stream.close()


def failure_to_read(spark: SparkSession, path: str) -> BaseException | None:
    """Open a file, read its first byte, and return the error if that fails."""
    try:
        stream = file_system(spark, path).open(hadoop_path(spark, path))
        try:
            stream.read()
        finally:
            stream.close()
    except JAVA_ERRORS as error:
        return error
    return None


def delete_file(spark: SparkSession, path: str) -> None:
    """Delete a file or an empty folder; one that is gone already counts as deleted."""
    file_system(spark, path).delete(hadoop_path(spark, path), False)


def list_times(spark: SparkSession, folder: str) -> dict[str, int]:
    """Return a small folder's file names with their modification times, ms since 1970 UTC."""
    if not path_exists(spark, folder):
        return {}
    entries = file_system(spark, folder).listStatus(hadoop_path(spark, folder))
    return {str(one.getPath().getName()): int(one.getModificationTime()) for one in entries}


def java_strings(spark: SparkSession, texts: Sequence[str]) -> Any:
    """Return a Java array of non-empty texts, handed over in one piece."""
    strings = java_class(spark, "org.apache.hadoop.util.StringUtils")
    return strings.getStrings("\0".join(texts), "\0")


def causes(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield class and message of the JVM exception behind an error, outermost first."""
    throwable = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    for _ in range(20):  # guards against a cycle of causes
        if throwable is None:
            return
        yield throwable.getClass().getSimpleName(), str(throwable.getMessage() or "")
        throwable = throwable.getCause()


def is_java_error(error: BaseException, simple_name: str) -> bool:
    """Whether the error, or a cause of it in the JVM, is of this class (or a subclass' name)."""
    return any(name == simple_name for name, _ in causes(error))


def one_line(error: BaseException) -> str:
    """Return the innermost reason of a Spark, Delta or Hadoop error, without a stack trace."""
    chain = list(causes(error))
    name, message = chain[-1] if chain else (type(error).__name__, str(error))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if any(_TRACEBACK in line for line in lines):  # of a Python worker: its last line says why
        lines = [line for line in lines if not line.startswith("SQLSTATE")][-1:]
    first_line = _CONDITION_PREFIX.sub("", _CLASS_PREFIX.sub("", lines[0])) if lines else ""
    return f"{first_line} ({name})" if first_line else name


@contextmanager
def reported_as(kind: type[CaptionlakeError], message: str, *, remedy: str = "") -> Iterator[None]:
    """Turn whatever Spark, Delta or Hadoop raises inside into one line of our own."""
    try:
        yield
    except JAVA_ERRORS as error:
        raise kind(f"{message}: {one_line(error)}.", remedy=remedy) from error


def _configuration(spark: SparkSession) -> Any:
    return spark._jsc.hadoopConfiguration()
