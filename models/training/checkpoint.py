"""Everything a killed training needs to go on exactly where it was, in one file.

Weights, averaged weights, optimiser state, dropout's random states and the place in the plan;
image order and augmentation follow from seed and step, so they need no state.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from conf.errors import ModelError
from models.training.whole import written_whole

CHECKPOINT = "checkpoint.npz"


@dataclass
class Progress:
    """Where a training is."""

    phase: int = 0
    step: int = 0
    """Steps done in the phase."""
    best: float = -1.0
    """Best dev CIDEr so far, over all phases."""
    stale_epochs: int = 0
    """Epochs of this phase since it last rose."""
    loss_sum: float = 0.0
    """Sum of the epoch's step losses so far; after a compiled pass, their mean."""
    global_step: int = 0
    """Steps done over all phases."""

    def note_epoch(self, cider: float) -> bool:
        """Take in an epoch's dev CIDEr; return whether it is the best so far."""
        is_best = cider > self.best
        self.best = max(self.best, cider)
        self.stale_epochs = 0 if is_best else self.stale_epochs + 1
        return is_best


def save_checkpoint(
    path: Path, progress: Progress, variables: Sequence[Any], *, identity: str
) -> None:
    """Write progress and variables or arrays; the file before stays until the new one is whole."""
    arrays = {f"v{n:04d}": np.asarray(v) for n, v in enumerate(variables)}
    facts = json.dumps({"identity": identity, "progress": dataclasses.asdict(progress)})
    with written_whole(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, facts=np.asarray(facts), **arrays)


def read_progress(path: Path, *, identity: str) -> Progress | None:
    """Progress in a checkpoint, None where there is none; ModelError if of another training."""
    if not path.exists():
        return None
    facts = json.loads(str(_load(path)["facts"]))
    if facts["identity"] != identity:
        raise ModelError(
            f"{path} was written by a training with other options or data, or from another model.",
            remedy="Repeat the first options, with the version that a moved alias named before, "
            "or choose another --output.",
        )
    return Progress(**facts["progress"])


def restore_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Fill the variables from a checkpoint; they must be those that were saved."""
    for variable, array in zip(variables, read_arrays(path, len(variables)), strict=True):
        variable.assign(array)


def read_arrays(path: Path, count: int) -> list[npt.NDArray[Any]]:
    """The first ``count`` arrays of a checkpoint, as they were saved."""
    arrays = _load(path)
    return [arrays[f"v{number:04d}"] for number in range(count)]


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"The checkpoint {path} is not readable ({error}).", remedy="Delete it to start anew."
        ) from error
