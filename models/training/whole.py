"""Files that appear whole or not at all, whenever a training is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield the name to write under; once the block ends well, the file takes its place."""
    partial = path.with_name(f"partial-{path.name}")
    yield partial
    partial.replace(path)
