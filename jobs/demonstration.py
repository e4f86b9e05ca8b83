"""The run without options: sample photographs of installed packages into a lake right here."""

from __future__ import annotations

import shutil
from pathlib import Path

from conf.settings import CaptionSettings
from models.samples import sample_photographs

SAMPLES = Path(".cache/sample-photographs")
LAKE = "lake"


def is_demonstration(settings: CaptionSettings) -> bool:
    """Tell whether the job was given neither input nor lake."""
    return settings.input is None and settings.lake is None


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
