"""One phase under way: which batch comes next, one step, the end of an epoch.

Shapes: B images · N grid cells · C channels · S image side.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.training.augment import augment_batch, drop_channels
from models.training.average import MovingAverage
from models.training.batches import (
    Packed,
    pack_captions,
    rows_of_step,
    steps_per_epoch,
    views_of_step,
)
from models.training.checkpoint import Progress, restore_variables, save_checkpoint
from models.training.features import view_seeds
from models.training.plan import Phase
from models.training.reports import EpochReport, StepReport
from models.training.selfcritical import advantages, pack_samples, reward_samples
from models.training.shards import MappedRows
from models.training.steps import Sampler, TrainStep
from models.training.weights import freeze_encoder, save_weights_whole

if TYPE_CHECKING:
    from models.training.trainer import Trainer

REPORT_STEPS = 20
# Views of the feature cache are numbered from 0; those of fine-tuning, one per step, from here.
FIRST_STEP_VIEW = 1000


class PhaseRun:
    """Takes a phase from where progress says to its end."""

    def __init__(
        self, trainer: Trainer, phase: Phase, progress: Progress, *, resumed: bool
    ) -> None:
        self.trainer, self.phase, self.progress = trainer, phase, progress
        model, plan = trainer.model, trainer.plan
        if progress.phase and trainer.best_path.exists():
            # The best weights open a phase; a resumed one then gets its own from the checkpoint,
            # and its encoder, where frozen, is the best one either way.
            model.load_weights(str(trainer.best_path))
        freeze_encoder(model, tuned_share=plan.tuned_share if phase.kind == "finetune" else 0.0)
        self.stepper = TrainStep(
            model,
            label_smoothing=0.0 if phase.kind == "self_critical" else phase.label_smoothing,
            weight_decay=plan.weight_decay,
            clip_norm=plan.clip_norm,
            encoder_rate=plan.encoder_rate,
            dropout=phase.kind != "self_critical",
        )
        self.average = MovingAverage(self.stepper.variables, decay=plan.average_decay)
        self.epoch_steps = steps_per_epoch(len(trainer.train), batch_images=phase.batch_images)
        self.total_steps = self.epoch_steps * phase.epochs
        if resumed:
            restore_variables(trainer.checkpoint_path, self._variables())
        self._prepare_inputs()

    def finish(self) -> None:
        """Run the phase's remaining steps; leaves a checkpoint behind if asked to stop."""
        progress, began, first = self.progress, time.monotonic(), self.progress.step
        if progress.step == 0:
            self._save()  # what opens a phase, before a better one takes its name
        while progress.step < self.total_steps and progress.stale_epochs < self.phase.patience:
            if self.trainer.is_stopping():
                self._save()
                return
            rate = self.phase.rate_at(progress.step, total_steps=self.total_steps)
            loss = float(self._step(progress.step, rate))
            self.trainer.refuse_divergence(self.phase, is_finite=math.isfinite(loss))
            self._count_step(loss)
            if progress.step % REPORT_STEPS == 0:
                pace = (time.monotonic() - began) / (progress.step - first)
                self._report_step(loss, rate, seconds_per_step=pace)
            if progress.step % self.epoch_steps == 0:
                self._end_epoch()
            elif progress.step % self.trainer.plan.checkpoint_steps == 0:
                self._save()
        progress.phase, progress.step, progress.stale_epochs = progress.phase + 1, 0, 0

    def _prepare_inputs(self) -> None:
        trainer, phase = self.trainer, self.phase
        self._views: list[MappedRows] = []
        self._dev_features: MappedRows | None = None
        if phase.kind != "finetune":
            self._views = trainer.cached_features(trainer.train, views=trainer.plan.views)
            self._dev_features = trainer.cached_features(trainer.dev, views=1)[0]
        if phase.kind == "self_critical":
            self._reward = trainer.reward()
            self._sampler = Sampler(trainer.model, samples=phase.samples)

    def _step(self, step: int, rate: float) -> Any:
        images_in_all = len(self.trainer.train)
        size = self.phase.batch_images
        rows = rows_of_step(step, images=images_in_all, batch_images=size, seed=self._seed)
        images = self._images(step, rows)
        return self.stepper(images, self._batch(step, rows, images), rate=rate)

    def _images(self, step: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Cached features [B, N, C], or augmented pixels uint8 [B, S, S, 3] in fine-tuning."""
        if self.phase.kind == "finetune":
            seeds = view_seeds(rows, seed=self._seed, view=FIRST_STEP_VIEW + step)
            return augment_batch(self.trainer.train.pixels.take(rows), seeds=seeds)
        views = views_of_step(step, count=len(rows), views=len(self._views), seed=self._seed)
        pairs = zip(rows, views, strict=True)
        features = np.concatenate([self._views[view].take([row]) for row, view in pairs])
        if not self.phase.feature_dropout:
            return features
        seed = (self._seed, step, 2)
        return drop_channels(features, share=self.phase.feature_dropout, seed=seed)

    def _batch(self, step: int, rows: npt.NDArray[np.int64], images: npt.NDArray[Any]) -> Packed:
        if self.phase.kind != "self_critical":
            return pack_captions(self.trainer.token_lists(rows))
        sampled = self._sampler(images, seed=(self._seed, step))
        rewards = reward_samples(self._reward, rows, sampled)
        return pack_samples(sampled, advantages(rewards))

    @property
    def _seed(self) -> int:
        return self.trainer.plan.seed + 7919 * self.progress.phase

    def _count_step(self, loss: float) -> None:
        progress = self.progress
        progress.loss_sum += loss
        progress.step += 1
        progress.global_step += 1
        self.average.update(progress.step)

    def _end_epoch(self) -> None:
        progress, trainer = self.progress, self.trainer
        self._refuse_divergence()
        with self.average.applied():
            figures, captions = trainer.describe_dev(self._dev_features)
            is_best = progress.note_epoch(figures["cider"])
            if is_best:
                save_weights_whole(trainer.model, trainer.best_path)
        figures["loss"] = progress.loss_sum / self.epoch_steps
        progress.loss_sum = 0.0
        epoch = progress.step // self.epoch_steps
        self._save()
        trainer.listener.on_epoch(
            EpochReport(self.phase.kind, epoch, progress.global_step, figures, is_best, captions)
        )

    def _report_step(self, loss: float, rate: float, *, seconds_per_step: float) -> None:
        step, total = self.progress.step, self.total_steps
        left = (total - step) * seconds_per_step
        self.trainer.listener.on_step(
            StepReport(self.phase.kind, step, total, self.progress.global_step, loss, rate, left)
        )

    def _variables(self) -> list[Any]:
        return [*self.trainer.model.variables, *self.stepper.state, *self.average.variables]

    def _refuse_divergence(self) -> None:
        is_finite = all(np.isfinite(np.asarray(v)).all() for v in self._variables())
        self.trainer.refuse_divergence(self.phase, is_finite=is_finite)

    def _save(self) -> None:
        trainer = self.trainer
        self._refuse_divergence()  # a step's loss says nothing of the weights after it
        save_checkpoint(
            trainer.checkpoint_path, self.progress, self._variables(), identity=trainer.identity
        )
