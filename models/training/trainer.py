"""The whole of a training: phases one after the other, from the checkpoint if there is one.

Shapes: B images · N grid cells · C channels · S image side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.captioner import Captioner
from models.metrics import score_captions, split_by_rules
from models.tokenizer import Tokenizer
from models.training.checkpoint import CHECKPOINT, Progress, read_progress
from models.training.cider import CiderReward
from models.training.evaluation import DevCaptioner, encode_shards, numpy_encoder
from models.training.features import write_features
from models.training.phase_run import PhaseRun
from models.training.plan import TrainingPlan
from models.training.reports import EpochReport, Listener
from models.training.shards import MappedRows, Shards
from models.training.weights import BEST, save_weights_whole


class Trainer:
    """Trains a captioner over shards and leaves it with the best weights on dev."""

    def __init__(
        self,
        model: Captioner,
        tokenizer: Tokenizer,
        *,
        plan: TrainingPlan,
        train: Shards,
        dev: Shards,
        directory: Path,
        listener: Listener,
        starts_trained: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train a model; one that ``starts_trained`` stays as it is if nothing better comes."""
        self.model, self.tokenizer, self.plan = model, tokenizer, plan
        self._starts_trained = starts_trained
        self.train, self.dev, self.directory = train, dev, directory
        self.listener, self.is_stopping = listener, is_stopping
        self.best_path, self.checkpoint_path = directory / BEST, directory / CHECKPOINT
        self._dev_captioner = DevCaptioner(model, tokenizer, beam_width=plan.beam_width)

    @property
    def identity(self) -> str:
        """What a checkpoint must have been written by, to be gone on with."""
        data = self.train.fingerprint + self.dev.fingerprint
        return self.plan.to_json() + self.model.config.to_json() + data

    def run(self) -> Progress:
        """Train through all phases; ends early, with a checkpoint, when ``is_stopping``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        progress = read_progress(self.checkpoint_path, identity=self.identity)
        resumed = progress is not None
        progress = progress or Progress(best=self._begin())
        while progress.phase < len(self.plan.phases) and not self.is_stopping():
            PhaseRun(self, self.plan.phases[progress.phase], progress, resumed=resumed).finish()
            resumed = False
        if self.best_path.exists():
            self.model.load_weights(str(self.best_path))
        return progress

    def _begin(self) -> float:
        """Return the dev CIDEr to beat, and keep the weights that reach it."""
        if not self._starts_trained:
            return Progress.best
        figures, captions = self.describe_dev(None)
        save_weights_whole(self.model, self.best_path)
        self.listener.on_epoch(EpochReport("initial model", 0, 0, figures, True, captions))
        return figures["cider"]

    def cached_features(self, shards: Shards, *, views: int) -> list[MappedRows]:
        """Features of each view under the present encoder, from disk where they are there."""
        digest = hashlib.sha256(f"{shards.fingerprint}:{self.plan.seed}".encode())
        for array in self.model.encoder.get_weights():
            digest.update(np.ascontiguousarray(array).tobytes())
        folder = self.directory / "features" / digest.hexdigest()[:16]
        encode = numpy_encoder(self.model)
        return write_features(encode, shards, folder, views=views, seed=self.plan.seed)

    def token_lists(self, rows: npt.NDArray[np.int64]) -> list[list[list[int]]]:
        """Captions of the train images ``rows`` as tokens from <start> to <end>."""
        length = self.model.config.max_length
        captions = self.train.captions
        return [
            [self.tokenizer.encode(text, max_length=length) for text in captions[row]]
            for row in rows
        ]

    def reward(self) -> CiderReward:
        """CIDEr-D against the train captions, <end> counted as a word."""
        tokens = self.token_lists(np.arange(len(self.train)))
        return CiderReward([[caption[1:] for caption in row] for row in tokens])

    def describe_dev(self, features: npt.NDArray[Any] | None) -> tuple[dict[str, float], list[str]]:
        """Dev figures and captions under the present weights; encodes where nothing is given."""
        if features is None:
            features = encode_shards(self.model, self.dev)
        captions = self._dev_captioner.caption(features)
        scored = score_captions(captions, self.dev.captions, split=split_by_rules)
        return scored.figures.as_dict(), captions
