"""Files and folders as a filesystem tells them, and which of them are hidden."""

from __future__ import annotations

from typing import NamedTuple

_HIDDEN_STARTS = ("_", ".")
_COPYING = "._COPYING_"


class FileEntry(NamedTuple):
    """One file or folder.

    Attributes:
        path: qualified text (`storage.paths`).
        size_bytes: length of a file.
        mtime_us: modification time in microseconds since 1970, UTC.
        is_folder: whether it is a folder.
    """

    path: str
    size_bytes: int
    mtime_us: int
    is_folder: bool

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]


def is_hidden(name: str) -> bool:
    """Whether a name is a marker, a leftover, or a file that is still being copied."""
    return name.startswith(_HIDDEN_STARTS) or name.endswith(_COPYING)
