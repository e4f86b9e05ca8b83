"""The training loop: phases, epochs, checkpoints, dev figures, early stop.

Shapes: B images · N grid cells · C channels · S image side.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.captioner import Captioner
from models.tokenizer import Tokenizer
from models.training.augment import augment_batch
from models.training.average import MovingAverage
from models.training.batches import (
    Packed,
    pack_captions,
    rows_of_step,
    steps_per_epoch,
    views_of_step,
)
from models.training.checkpoint import Progress, read_progress, restore_variables, save_checkpoint
from models.training.cider import CiderReward
from models.training.evaluation import DevCaptioner, score_captions
from models.training.features import encode_rows, view_seeds, write_features
from models.training.plan import Phase, TrainingPlan
from models.training.selfcritical import advantages, pack_samples, reward_samples
from models.training.shards import MappedRows, Shards
from models.training.steps import Sampler, TrainStep

BEST = "best.weights.h5"
CHECKPOINT = "checkpoint.npz"


class StepReport(NamedTuple):
    """How the phase goes at one step."""

    phase: str
    step: int
    total_steps: int
    loss: float
    rate: float
    seconds_left: float


class EpochReport(NamedTuple):
    """How dev looks after an epoch."""

    phase: str
    epoch: int
    figures: dict[str, float]
    is_best: bool
    captions: list[str]
    """Of the dev images, in order."""


class Listener(Protocol):
    """Who is told how the training goes."""

    def on_step(self, report: StepReport) -> None:
        """After every few steps."""

    def on_epoch(self, report: EpochReport) -> None:
        """After dev was captioned."""


class Trainer:
    """Trains a captioner over shards and leaves the best weights in ``directory``."""

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
    ) -> None:
        self.model, self.tokenizer, self.plan = model, tokenizer, plan
        self.train, self.dev = train, dev
        self.directory, self.listener = directory, listener
        self._token_lists = [
            [tokenizer.encode(text, max_length=model.config.max_length) for text in captions]
            for captions in train.captions
        ]
        self._dev_captioner = DevCaptioner(model, tokenizer, beam_width=plan.beam_width)
        self._identity = plan.to_json() + model.config.to_json() + train.fingerprint
        self._encode = _compile_encoder(model)

    def run(self) -> Progress:
        """Train through all phases, from the checkpoint if there is one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        checkpoint = self.directory / CHECKPOINT
        progress = read_progress(checkpoint, plan=self._identity)
        resumed = progress is not None
        progress = progress or Progress()
        while progress.phase < len(self.plan.phases):
            run = PhaseRun(self, self.plan.phases[progress.phase], progress, resumed=resumed)
            run.finish()
            resumed = False
        self.model.load_weights(str(self.directory / BEST))
        return progress

    def encode_numpy(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Features [B, N, C] of pixels uint8 [B, S, S, 3] under the present weights."""
        return np.asarray(self._encode(pixels))

    def cached_features(self, shards: Shards, *, views: int) -> list[MappedRows]:
        """Features of each view under the present encoder, from disk where they are there."""
        digest = hashlib.sha256(f"{shards.fingerprint}:{self.plan.seed}".encode())
        for array in self.model.encoder.get_weights():
            digest.update(np.ascontiguousarray(array).tobytes())
        directory = self.directory / "features" / digest.hexdigest()[:16]
        return write_features(
            self.encode_numpy, shards, directory, views=views, seed=self.plan.seed
        )

    def token_lists(self, rows: npt.NDArray[np.int64]) -> list[list[list[int]]]:
        """Captions as tokens of the train images ``rows``."""
        return [self._token_lists[row] for row in rows]

    def reward(self) -> CiderReward:
        """CIDEr-D against the train captions, <end> counted as a word."""
        return CiderReward([[caption[1:] for caption in row] for row in self._token_lists])

    def describe_dev(self, features: npt.NDArray[Any] | None) -> tuple[dict[str, float], list[str]]:
        """Dev figures and captions under the present weights."""
        if features is None:
            features = encode_rows(self.encode_numpy, self.dev, np.arange(len(self.dev)))
        captions = self._dev_captioner.caption(features)
        return score_captions(captions, self.dev.captions), captions


class PhaseRun:
    """One phase under way."""

    def __init__(
        self, trainer: Trainer, phase: Phase, progress: Progress, *, resumed: bool
    ) -> None:
        self.trainer, self.phase, self.progress = trainer, phase, progress
        model, plan = trainer.model, trainer.plan
        if progress.phase and not resumed:
            model.load_weights(str(trainer.directory / BEST))
        freeze_encoder(model, tuned_share=plan.tuned_share if phase.kind == "finetune" else 0.0)
        smoothing = 0.0 if phase.kind == "self_critical" else phase.label_smoothing
        self.stepper = TrainStep(
            model,
            label_smoothing=smoothing,
            weight_decay=plan.weight_decay,
            clip_norm=plan.clip_norm,
        )
        self.average = MovingAverage(self.stepper.variables, decay=plan.average_decay)
        self.epoch_steps = steps_per_epoch(len(trainer.train), batch_images=phase.batch_images)
        self.total_steps = self.epoch_steps * phase.epochs
        if resumed:
            restore_variables(trainer.directory / CHECKPOINT, self._variables())
        self._prepare_inputs()

    def finish(self) -> None:
        """Run the phase's remaining steps and move progress on to the next phase."""
        progress, began, first = self.progress, time.monotonic(), self.progress.step
        while progress.step < self.total_steps and progress.stale_epochs < self.phase.patience:
            rate = self.phase.rate_at(progress.step, total_steps=self.total_steps)
            loss = float(self._step(progress.step, rate))
            progress.loss_sum += loss
            progress.step += 1
            self.average.update(progress.step)
            if progress.step % 20 == 0:
                seconds = (time.monotonic() - began) / (progress.step - first)
                self._report_step(loss, rate, seconds)
            if progress.step % self.epoch_steps == 0:
                self._end_epoch()
            elif progress.step % self.trainer.plan.checkpoint_steps == 0:
                self._save()
        progress.phase, progress.step, progress.stale_epochs = progress.phase + 1, 0, 0

    def _prepare_inputs(self) -> None:
        trainer, phase = self.trainer, self.phase
        self._views: list[MappedRows] = []
        self._dev_features: npt.NDArray[Any] | None = None
        if phase.kind != "finetune":
            self._views = trainer.cached_features(trainer.train, views=trainer.plan.views)
            dev = trainer.cached_features(trainer.dev, views=1)[0]
            self._dev_features = dev.take(np.arange(len(dev)))
        if phase.kind == "self_critical":
            self._reward = trainer.reward()
            self._sampler = Sampler(trainer.model, samples=phase.samples)

    def _step(self, step: int, rate: float) -> Any:
        rows = rows_of_step(
            step,
            images=len(self.trainer.train),
            batch_images=self.phase.batch_images,
            seed=self._seed(),
        )
        images = self._images(step, rows)
        return self.stepper(images, self._batch(step, rows, images), rate=rate)

    def _images(self, step: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Cached features [B, N, C], or augmented pixels uint8 [B, S, S, 3] in fine-tuning."""
        if self.phase.kind == "finetune":
            seeds = view_seeds(rows, seed=self._seed(), view=1000 + step)
            return augment_batch(self.trainer.train.pixels.take(rows), seeds=seeds)
        views = views_of_step(step, count=len(rows), views=len(self._views), seed=self._seed())
        pairs = zip(rows, views, strict=True)
        return np.concatenate([self._views[view].take([row]) for row, view in pairs])

    def _batch(
        self, step: int, rows: npt.NDArray[np.int64], images: npt.NDArray[Any]
    ) -> Packed:
        if self.phase.kind != "self_critical":
            return pack_captions(self.trainer.token_lists(rows))
        sampled = self._sampler(images, seed=(self._seed(), step))
        rewards = reward_samples(self._reward, rows, sampled)
        return pack_samples(sampled, advantages(rewards))

    def _seed(self) -> int:
        return self.trainer.plan.seed + 7919 * self.progress.phase

    def _end_epoch(self) -> None:
        progress, trainer = self.progress, self.trainer
        with self.average.applied():
            figures, captions = trainer.describe_dev(self._dev_features)
            is_best = figures["cider"] > progress.best
            if is_best:
                save_weights_whole(trainer.model, trainer.directory / BEST)
        progress.best = max(progress.best, figures["cider"])
        progress.stale_epochs = 0 if is_best else progress.stale_epochs + 1
        figures["loss"] = progress.loss_sum / self.epoch_steps
        progress.loss_sum = 0.0
        epoch = progress.step // self.epoch_steps
        progress.history.append({"phase": self.phase.kind, "epoch": epoch, **figures})
        self._save()
        trainer.listener.on_epoch(EpochReport(self.phase.kind, epoch, figures, is_best, captions))

    def _report_step(self, loss: float, rate: float, seconds_per_step: float) -> None:
        left = (self.total_steps - self.progress.step) * seconds_per_step
        self.trainer.listener.on_step(
            StepReport(self.phase.kind, self.progress.step, self.total_steps, loss, rate, left)
        )

    def _variables(self) -> list[Any]:
        stepper = self.stepper
        return [
            *self.trainer.model.variables,
            *stepper.optimizer.variables,
            *self.average.variables,
        ]

    def _save(self) -> None:
        path = self.trainer.directory / CHECKPOINT
        save_checkpoint(path, self.progress, self._variables(), plan=self.trainer._identity)


def freeze_encoder(model: Captioner, *, tuned_share: float) -> None:
    """Let only the top ``tuned_share`` of the encoder's layers learn; 0 freezes all of it."""
    layers = [layer for layer in model.encoder.layers if layer.weights]
    first = len(layers) - round(len(layers) * tuned_share)
    model.encoder.trainable = tuned_share > 0
    for number, layer in enumerate(layers):
        layer.trainable = number >= first


def save_weights_whole(model: Captioner, path: Path) -> None:
    """Save weights so that a kill leaves the earlier file, never half a one."""
    partial = path.with_name("partial.weights.h5")
    model.save_weights(str(partial))
    partial.replace(path)


def _compile_encoder(model: Captioner) -> Callable[[npt.NDArray[np.uint8]], Any]:
    import tensorflow as tf

    # Without an explicit compile TensorFlow leaves XLA off, which slows depthwise nets on CPUs.
    return tf.function(model.encode, reduce_retracing=True)  # type: ignore[no-any-return]
