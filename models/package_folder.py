"""What a new package may take the place of: nothing, or an earlier package and no more than it."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from conf.errors import UsageError
from models.package import MANIFEST

_REMEDY = "Name a new folder, or move what is there away."


def refuse_foreign(directory: Path) -> None:
    """Raise UsageError unless a package can be written here without losing anything else."""
    if directory.name in ("", ".."):
        raise UsageError(
            f"The output {directory} has no name of its own.", remedy="Name a new folder."
        )
    if directory.is_dir():
        _refuse_contents(directory)
    elif directory.exists() or directory.is_symlink():
        raise UsageError(f"The output {directory} is no folder.", remedy=_REMEDY)


def _refuse_contents(directory: Path) -> None:
    packaged = _packaged(directory)
    names = (path.relative_to(directory).as_posix() for path in directory.rglob("*"))
    foreign = next((name for name in names if name not in packaged), None)
    if foreign is not None:
        what = "more than a model package" if packaged else "something else than a model package"
        raise UsageError(
            f"The output {directory} holds {what}: {foreign}, which would be deleted.",
            remedy=_REMEDY,
        )


def _packaged(directory: Path) -> set[str]:
    """Files and folders of the package that lies here; none where this isn't one."""
    try:
        files = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["files"]
        folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {MANIFEST, *files} | folders
