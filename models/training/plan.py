"""What a training does, fixed before it starts and stored beside its checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from conf.errors import UsageError

PhaseKind = Literal["frozen", "finetune", "self_critical"]


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one objective and one learning-rate curve."""

    kind: PhaseKind
    epochs: int
    learning_rate: float
    batch_images: int = 20
    label_smoothing: float = 0.1
    warmup_steps: int = 200
    patience: int = 4
    """Epochs without a better dev figure after which the phase ends."""
    samples: int = 5
    """Captions drawn per image in self-critical training."""
    feature_dropout: float = 0.0
    """Share of the cached features' channels that are set to 0."""

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_images < 1 or not self.learning_rate > 0:
            raise UsageError(
                f"The {self.kind} phase needs epochs >= 0, a batch >= 1 and a rate > 0.",
                remedy="See train_captioner --help.",
            )

    def rate_at(self, step: int, *, total_steps: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine down to a twentieth."""
        warmup = min(self.warmup_steps, max(1, total_steps // 5))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def default_phases() -> tuple[Phase, ...]:
    """The phases of a training unless others are asked for."""
    return (
        Phase("frozen", epochs=8, learning_rate=1e-3),
        Phase("finetune", epochs=5, learning_rate=4e-4, warmup_steps=100),
        Phase("self_critical", epochs=12, learning_rate=1e-4, warmup_steps=50),
    )


@dataclass(frozen=True)
class TrainingPlan:
    """All that decides the outcome, besides the data and the network's config."""

    phases: tuple[Phase, ...] = field(default_factory=default_phases)
    seed: int = 20
    views: int = 4
    """Views of each photograph in the feature cache: itself and augmented copies."""
    average_decay: float = 0.998
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    tuned_share: float = 0.5
    """Share of the encoder's layers, counted from the top, that change once it isn't frozen."""
    encoder_rate: float = 0.2
    """The encoder's learning rate, where it learns, relative to the decoder's."""
    beam_width: int = 3
    """Beam with which dev is captioned."""
    checkpoint_steps: int = 100
    mirror: bool = True
    """Where trained on JAX: mirror photographs of which no caption says left or right."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for a run's parameters."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Canonical JSON text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
