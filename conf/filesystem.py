"""What all must agree on who name files: schemes, the text of a name, and modification times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

LOCAL_SCHEME = "file:"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Spark writes timestamps of the years 1 to 9999; a file may claim any.
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:(?=/)")
_ESCAPE = r"x(5c|[89a-f][0-9a-f])"
_WRITTEN_OUT = re.compile(rf"\\{_ESCAPE}")
# Python holds a byte that is no UTF-8 as one of these surrogates (PEP 383).
_TO_WRITE_OUT = re.compile(rf"[\udc80-\udcff]|\\(?={_ESCAPE})")


def has_scheme(uri: str) -> bool:
    """Whether a path or URI says on which file system it lies; the name `a:b.jpg` does not."""
    return _SCHEME.match(uri) is not None


def from_here(uri: str) -> str:
    """Return a path without a scheme as one from the current directory, anything else as it is."""
    return uri if has_scheme(uri) else f"{LOCAL_SCHEME}{Path.cwd() / uri}"


def clamp_mtime(microseconds: int) -> int:
    """Return a modification time, in µs since 1970 UTC, that a table can hold: years 1 to 9999."""
    return min(max(microseconds, EARLIEST_US), LATEST_US)


def mtime_of(microseconds: int) -> datetime:
    """Return the clamped modification time as a moment (UTC)."""
    return EPOCH + timedelta(microseconds=clamp_mtime(microseconds))


def text_of_local(path: str) -> str:
    r"""Return the `file:` text of an operating system's path, which any table can hold.

    A byte that is no UTF-8 is written out as `\xff`. So that no other name has this text, the
    backslash of a name that holds such characters itself is written out as `\x5c`; every other
    name stays as it is.
    """
    return LOCAL_SCHEME + _TO_WRITE_OUT.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", path)


def local_path(text: str) -> str:
    """Return the operating system's path of a `file:` text; undoes `text_of_local`."""
    return _WRITTEN_OUT.sub(_read_back, text.removeprefix(LOCAL_SCHEME))


def _read_back(found: re.Match[str]) -> str:
    byte = int(found[1], 16)
    return chr(byte if byte < 0x80 else 0xDC00 + byte)


class HdfsAddress(NamedTuple):
    """How a client that isn't Hadoop's own reaches an HDFS without Kerberos.

    Attributes:
        uri: `hdfs://` and host and port, or the nameservice.
        user: whom the HDFS takes the client for.
        configuration: Hadoop's properties that the client knows, as pairs.
    """

    uri: str
    user: str
    configuration: tuple[tuple[str, str], ...]

    def name_of(self, path: str) -> str:
        """Return a qualified path of this HDFS without scheme and authority."""
        return path.removeprefix(self.uri)
