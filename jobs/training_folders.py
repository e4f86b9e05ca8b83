"""The folders that a training writes, and the refusal of those that hold something of others.

A training deletes what earlier ones left in its own folders, so it must know them for its own.
"""

from __future__ import annotations

from pathlib import Path

from conf.errors import UsageError
from jobs.training_pairs import DEV, TRAIN
from models.package_folder import refuse_foreign

SKIPPED = "skipped.tsv"
SKIPPED_COLUMNS = ("name", "reason", "detail")
TRAINING = "training"
READY = "shards.json"
MARKER = "captionlake-work.txt"
OWNED = (TRAIN, DEV, TRAINING)
# How files begin that trainings left here before they marked their folders.
_SIGNS = {SKIPPED: "\t".join(SKIPPED_COLUMNS), READY: '{"image_size"'}
_REMEDY = "Choose another --work."


def refuse_folders(output: Path, work: Path) -> None:
    """Raise UsageError where writing into these folders would delete what isn't a training's."""
    refuse_foreign(output)
    refuse_work(work)
    package, own = output.resolve(), work.resolve()
    if own.is_relative_to(package):
        raise UsageError(f"--work {work} lies inside --output {output}.", remedy=_REMEDY)
    for name in OWNED:
        if package.is_relative_to(own / name):
            raise UsageError(
                f"--output {output} lies inside {work / name}, which trainings delete.",
                remedy="Choose another --output.",
            )


def refuse_work(work: Path) -> None:
    """Raise UsageError where a folder of a training's name isn't known to be a training's."""
    if work.exists() and not work.is_dir():
        raise UsageError(f"--work {work} is no folder.", remedy=_REMEDY)
    foreign = [name for name in OWNED if (work / name).exists()]
    if foreign and not _is_ours(work):
        raise UsageError(
            f"--work {work} holds a folder {foreign[0]!r} that is not known to be a training's, "
            "and would be deleted.",
            remedy=_REMEDY,
        )


def claim_work(work: Path) -> None:
    """Make the folder, and mark it as one whose contents trainings may delete."""
    refuse_work(work)
    work.mkdir(parents=True, exist_ok=True)
    text = f"train_captioner made this folder, and deletes {', '.join(OWNED)} in it as it needs.\n"
    (work / MARKER).write_text(text, encoding="utf-8")


def _is_ours(work: Path) -> bool:
    return (work / MARKER).is_file() or any(
        _begins_with(work / name, start) for name, start in _SIGNS.items()
    )


def _begins_with(path: Path, start: str) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start.encode()
    except OSError:
        return False
