"""What the process that trains is told, as a file in the training's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from models.training.plan import Phase, TrainingPlan

if TYPE_CHECKING:
    from models.captioner import CaptionerConfig

REQUEST = "request.json"
INITIAL = "initial.weights.h5"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class TrainingRequest:
    """One training.

    Attributes:
        directory: where its checkpoints and weights lie, and the files below.
        train, dev: folders of shards.
        starts_trained: whether the initial weights stay if nothing better comes.
        mixed_precision: whether to compute in bfloat16.
    """

    directory: Path
    config: CaptionerConfig
    plan: TrainingPlan
    train: Path
    dev: Path
    starts_trained: bool = False
    mixed_precision: bool = False

    @property
    def initial_weights(self) -> Path:
        """The weights to begin from."""
        return self.directory / INITIAL

    @property
    def tokenizer(self) -> Path:
        """The words."""
        return self.directory / TOKENIZER

    def write(self) -> None:
        """Write the request into its folder."""
        fields: dict[str, Any] = {**asdict(self), "train": str(self.train), "dev": str(self.dev)}
        del fields["directory"]
        (self.directory / REQUEST).write_text(json.dumps(fields, indent=2), encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read what ``write`` wrote."""
        from models.captioner import CaptionerConfig

        fields = json.loads((directory / REQUEST).read_text(encoding="utf-8"))
        plan = fields.pop("plan")
        phases = tuple(Phase(**phase) for phase in plan.pop("phases"))
        config = CaptionerConfig(**fields.pop("config"))
        train, dev = Path(fields.pop("train")), Path(fields.pop("dev"))
        return cls(directory, config, TrainingPlan(phases, **plan), train, dev, **fields)
