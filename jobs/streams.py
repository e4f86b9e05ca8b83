"""Where a driver's output goes, and that a run outlives whoever reads it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import IO

STREAMS_VARIABLE = "CAPTIONLAKE_STREAMS"


class Unheard(io.TextIOBase):
    """A stream that falls silent when its reader is gone, instead of raising BrokenPipeError."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can still be heard."""
        with suppress(BrokenPipeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can still be heard."""
        with suppress(BrokenPipeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person reads at a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor beneath."""
        return self._stream.fileno()


@contextmanager
def own_streams() -> Iterator[None]:
    """Write to spark-submit.sh's own output and error, as long as somebody reads them.

    A scheduler's worker may die while the run that it started goes on.
    """
    _reconnect()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(Unheard(sys.stdout)))
        stack.enter_context(redirect_stderr(Unheard(sys.stderr)))
        yield


def _reconnect() -> None:
    """Take spark-submit.sh's streams in place of the JVM's.

    Under spark-submit both come out of the JVM as one pipe: errors would stand in the output, and
    a person at a terminal would see no progress bar.
    """
    folder = os.environ.get(STREAMS_VARIABLE)
    for stream in (sys.stdout, sys.stderr) if folder else ():
        stream.flush()
        with suppress(OSError):  # a socket can't be opened by name; the JVM's pipe will do
            theirs = os.open(f"{folder}/{stream.fileno()}", os.O_WRONLY | os.O_APPEND)
            os.dup2(theirs, stream.fileno())
            os.close(theirs)
