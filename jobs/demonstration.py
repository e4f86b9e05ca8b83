"""The run without options: sample photographs of installed packages into a lake right here."""

from __future__ import annotations

import shutil
from pathlib import Path

from conf.resolve import Resolved
from conf.settings import CaptionSettings
from models.samples import sample_photographs

SAMPLES = Path(".cache/sample-photographs")
LAKE = "lake"


def is_demonstration(resolved: Resolved[CaptionSettings]) -> bool:
    """Tell whether the job was given nothing: one whose input was forgotten captions no samples."""
    settings = resolved.settings
    is_given = settings.input is not None or settings.lake is not None
    return not is_given and "option" not in resolved.origins.values()


def as_demonstration(settings: CaptionSettings) -> CaptionSettings:
    """Return the settings with the sample photographs as input and `./lake` as lake."""
    return settings.model_copy(update={"input": str(gather_samples(SAMPLES)), "lake": LAKE})


def gather_samples(folder: Path) -> Path:
    """Copy the photographs, with their times, into a folder of their own; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for photograph in sample_photographs():
        copy = folder / photograph.name
        if not copy.exists():
            shutil.copy2(photograph, copy)
    return folder
