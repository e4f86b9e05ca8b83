"""The whole of a training: phases one after the other, from the checkpoint if there is one.

Shapes: B images · N grid cells · C channels · S image side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.metrics import score_captions, split_by_rules
from models.training.checkpoint import Progress
from models.training.cider import CiderReward
from models.training.evaluation import DevCaptioner, encode_shards, numpy_encoder
from models.training.features import BATCH, write_features
from models.training.phase_run import PhaseRun
from models.training.phases import PhasedTrainer
from models.training.plan import Phase
from models.training.shards import MappedRows, Shards
from models.training.weights import digest_weights


class Trainer(PhasedTrainer):
    """Trains a captioner over shards, streamed from disk."""

    def _prepare(self) -> None:
        beam_width = self.plan.beam_width
        self._dev_captioner = DevCaptioner(self.model, self.tokenizer, beam_width=beam_width)

    def _describe_start(self) -> tuple[dict[str, float], list[str]]:
        return self.describe_dev(None)

    def _finish_phase(self, phase: Phase, progress: Progress, *, resumed: bool) -> None:
        PhaseRun(self, phase, progress, resumed=resumed).finish()

    def cached_features(self, shards: Shards, *, views: int) -> list[MappedRows]:
        """Features of each view under the present encoder, from disk where they are there."""
        computed = f"{shards.fingerprint}:{self.plan.seed}:{self.model.compute_dtype}"
        digest = digest_weights(self.model.encoder, beside=computed)
        folder = self.directory / "features" / digest[:16]
        encode = numpy_encoder(self.model)

        def encode_or_stop(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
            self.check()
            return encode(pixels)

        return write_features(encode_or_stop, shards, folder, views=views, seed=self.plan.seed)

    def token_lists(self, rows: Iterable[int]) -> list[list[list[int]]]:
        """Captions of the train images ``rows`` as tokens from <start> to <end>."""
        length = self.model.config.max_length
        captions = self.train.captions
        return [
            [self.tokenizer.encode(text, max_length=length) for text in captions[row]]
            for row in rows
        ]

    def reward(self) -> CiderReward:
        """CIDEr-D against the train captions, <end> counted as a word."""

        def references(image: int) -> list[list[int]]:
            (captions,) = self.token_lists([image])
            return [caption[1:] for caption in captions]

        return CiderReward(references, images=len(self.train))

    def describe_dev(self, features: MappedRows | None) -> tuple[dict[str, float], list[str]]:
        """Dev figures and captions under the present weights; encodes where nothing is given."""
        parts = encode_shards(self.model, self.dev) if features is None else features.parts(BATCH)
        captions = []
        for part in parts:
            self.check()
            captions += self._dev_captioner.caption(part)
        scored = score_captions(captions, self.dev.captions, split=split_by_rules)
        return scored.figures.as_dict(), captions
