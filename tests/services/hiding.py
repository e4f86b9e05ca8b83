"""A folder that a process can't see, as if it ran on another machine.

Attributes:
    takes_root: the mark of tests that hide a folder.
    takes_package: the mark of tests whose executors get what `make package` built.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.services.checkout import ROOT

takes_root = pytest.mark.skipif(os.geteuid() != 0, reason="Hiding a folder takes root: use sudo.")
takes_package = pytest.mark.skipif(
    not (ROOT / "dist" / "env.tar.gz").exists(), reason="Nothing to ship: run `make package`."
)
# What such a process sees in the folder's place is an empty one.
SCRIPT = '{binds} mount -t tmpfs none {hidden} && cd / && exec "$@"'


def without_sight_of(hidden: Path, *, kept: Mapping[Path, Path]) -> list[str]:
    """Return what stands before a command that shall not see the folder.

    Args:
        hidden: the folder.
        kept: folders, be they in there, and where the command sees them instead; made if missing.

    Hiding takes root.
    """
    for place in kept.values():
        place.mkdir(exist_ok=True)
    binds = "".join(
        f"mount --bind {shlex.quote(os.fspath(folder))} {shlex.quote(os.fspath(place))} && "
        for folder, place in kept.items()
    )
    script = SCRIPT.format(binds=binds, hidden=shlex.quote(os.fspath(hidden)))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
