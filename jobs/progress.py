"""Progress of a run: a bar for a person at a terminal, plain log lines otherwise."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("captionlake")


class Reporter(Protocol):
    """Is told how many more images are committed."""

    def advance(self, images: int) -> None:
        """Count `images` more as done."""


@contextmanager
def reporting(total: int) -> Iterator[Reporter]:
    """Yield the reporter that suits standard error."""
    if not sys.stderr.isatty():
        yield _LogLines(total)
        return
    columns = (
        TextColumn("captioning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, total)


class _LogLines:
    def __init__(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()

    def advance(self, images: int) -> None:
        self._done += images
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        log.info(
            "%d of %d images, %.1f images/s, %.0f s left",
            self._done,
            self._total,
            rate,
            (self._total - self._done) / rate,
        )


class _Bar:
    def __init__(self, bar: Progress, total: int) -> None:
        self._bar, self._done, self._started = bar, 0, time.monotonic()
        self._task = bar.add_task("captioning", total=total, rate=0.0)

    def advance(self, images: int) -> None:
        self._done += images
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, advance=images, rate=rate)
