"""`models.training.trainer.Trainer`, a pass over the photographs at a time.

Shapes: I images · S image side · K captions of an image · T tokens of a caption.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from conf.errors import ModelError
from models.decoding import PAD, DecodingParameters
from models.metrics import score_captions, split_by_rules
from models.tokenizer import Tokenizer
from models.training.accelerated.network import Network
from models.training.accelerated.passes import Photographs, compile_captions
from models.training.accelerated.phase_run import DEV_BATCH, PhaseRun
from models.training.checkpoint import Progress
from models.training.phases import PhasedTrainer
from models.training.plan import Phase, TrainingPlan
from models.training.shards import Shards

PIXELS_SHARE = 0.7
"""Most of the device's memory that photographs may fill."""
_SIDES = re.compile(r"\b(?:left|right)", re.IGNORECASE)


class AcceleratedTrainer(PhasedTrainer):
    """Trains a captioner over shards that fit in the device's memory; best dev weights win.

    Unlike `Trainer`, all phases see freshly changed photographs at every step, self-critical
    training changes the encoder as fine-tuning does, and checkpoints are written after whole
    epochs. All pixels pass through the host's memory at the start.
    """

    def _prepare(self) -> None:
        model, train = self.model, self.train
        self._refuse_too_many()
        self.captions = _token_lists(train, self.tokenizer, max_length=model.config.max_length)
        self.photographs = Photographs(
            jnp.asarray(train.pixels.take(np.arange(len(train)))),
            jnp.asarray(self.captions),
            jnp.asarray(may_mirror(train.captions, self.plan)),
            jnp.arange(len(train), dtype=jnp.int32),
        )
        self.dev_pixels = jnp.asarray(_padded(self.dev, DEV_BATCH))
        self.decoding = DecodingParameters(beam_width=self.plan.beam_width)

    @property
    def identity(self) -> str:
        """What a checkpoint must have been written by, to be gone on with."""
        return f"accelerated {super().identity}"

    def _describe_start(self) -> tuple[dict[str, float], list[str]]:
        network = Network(self.model)
        tokens = compile_captions(network, self.decoding, batch=DEV_BATCH)(
            network.learning, network.staying, self.dev_pixels
        )
        return self.describe_dev(np.asarray(tokens))

    def _finish_phase(self, phase: Phase, progress: Progress, *, resumed: bool) -> None:
        PhaseRun(self, phase, progress, resumed=resumed).finish()

    def describe_dev(self, tokens: npt.NDArray[np.int32]) -> tuple[dict[str, float], list[str]]:
        """Dev figures and captions of tokens [I or more, T]."""
        captions = [self.tokenizer.decode(row) for row in tokens[: len(self.dev)].tolist()]
        scored = score_captions(captions, self.dev.captions, split=split_by_rules)
        return scored.figures.as_dict(), captions

    def _refuse_too_many(self) -> None:
        """Raise ModelError where the photographs would fill the device's memory."""
        room = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
        side = self.train.image_size
        needed = (len(self.train) + len(self.dev)) * side * side * 3
        if room is not None and needed > PIXELS_SHARE * room:
            raise ModelError(
                f"{needed >> 20} MiB of photographs are more than {PIXELS_SHARE:.0%} of the "
                f"device's {room >> 20} MiB.",
                remedy="Train with --trainer tensorflow, which streams them from disk.",
            )


def _token_lists(shards: Shards, tokenizer: Tokenizer, *, max_length: int) -> npt.NDArray[np.int32]:
    """Captions int32 [I, K, T] from <start> to <end>, then <pad>."""
    most = max(map(len, shards.captions))
    tokens = np.full((len(shards), most, max_length), PAD, np.int32)
    for image, texts in enumerate(shards.captions):
        for number, text in enumerate(texts):
            caption = tokenizer.encode(text, max_length=max_length)
            tokens[image, number, : len(caption)] = caption
    return tokens


def may_mirror(captions: Sequence[Sequence[str]], plan: TrainingPlan) -> list[bool]:
    """Whether each photograph may be mirrored, of whose captions these are."""
    return [plan.mirror and not tells_sides(texts) for texts in captions]


def tells_sides(captions: Sequence[str]) -> bool:
    """Whether a caption tells left from right, so that a mirrored photograph would belie it."""
    return any(map(_SIDES.search, captions))


def _padded(shards: Shards, multiple: int) -> npt.NDArray[Any]:
    """All pixels uint8 [I, S, S, 3], I rounded up to a multiple with black ones."""
    pixels = shards.pixels.take(np.arange(len(shards)))
    return np.pad(pixels, ((0, -len(pixels) % multiple), (0, 0), (0, 0), (0, 0)))
