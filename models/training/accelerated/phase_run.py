"""One phase under way: a compiled pass, its judgement on dev, a checkpoint, and the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from models.training.accelerated.network import Network
from models.training.accelerated.optimizer import AdamState, AdamW, Weights
from models.training.accelerated.passes import (
    Loss,
    Material,
    Schedule,
    are_finite,
    compile_captions,
    compile_pass,
    cross_entropy,
    self_critical,
)
from models.training.accelerated.reward import make_references
from models.training.batches import rows_of_epoch, steps_per_epoch
from models.training.checkpoint import Progress, read_arrays, save_checkpoint
from models.training.plan import Phase
from models.training.reports import EpochReport, StepReport
from models.training.weights import freeze_encoder, save_weights_whole

if TYPE_CHECKING:
    from models.training.accelerated.trainer import AcceleratedTrainer

DEV_BATCH = 100


class PhaseRun:
    """Takes a phase from where progress says to its end."""

    def __init__(
        self, trainer: AcceleratedTrainer, phase: Phase, progress: Progress, *, resumed: bool
    ) -> None:
        self.trainer, self.phase, self.progress = trainer, phase, progress
        model, plan = trainer.model, trainer.plan
        if progress.phase and trainer.best_path.exists():
            model.load_weights(str(trainer.best_path))
        freeze_encoder(model, tuned_share=0.0 if phase.kind == "frozen" else plan.tuned_share)
        self._network = network = Network(model)
        self._staying = network.staying
        optimizer = AdamW(
            tuple(
                plan.weight_decay * (w.ndim > 1 and not inside)
                for w, inside in zip(network.learning, network.is_encoder, strict=True)
            ),
            plan.clip_norm,
            plan.average_decay,
        )
        self._learning, self._state = network.learning, optimizer.begin(network.learning)
        if resumed:
            self._restore()
        self._pass = compile_pass(network, optimizer, self._loss())
        self._caption = compile_captions(network, trainer.decoding, batch=DEV_BATCH)
        is_rewarded = phase.kind == "self_critical"
        references = make_references(trainer.captions[..., 1:]) if is_rewarded else None
        self._material = Material(trainer.photographs, references)
        self._steps = steps_per_epoch(len(trainer.train), batch_images=phase.batch_images)

    def _loss(self) -> Loss:
        if self.phase.kind != "self_critical":
            return cross_entropy(self._network, label_smoothing=self.phase.label_smoothing)
        return self_critical(self._network, samples=self.phase.samples)

    def finish(self) -> None:
        """Run the phase's remaining epochs, with a checkpoint before them and after each."""
        progress, phase = self.progress, self.phase
        if progress.step == 0:
            self._save()  # what opens a phase, before a better one takes its name
        for epoch in range(progress.step // self._steps, phase.epochs):
            if progress.stale_epochs >= phase.patience:
                break
            if self.trainer.is_stopping():
                return
            self._train(epoch)
            report = self._judge(epoch)
            self._save()
            self.trainer.listener.on_epoch(report)
        progress.phase, progress.step, progress.stale_epochs = progress.phase + 1, 0, 0

    def _train(self, epoch: int) -> None:
        trainer, phase, progress = self.trainer, self.phase, self.progress
        began, total = time.monotonic(), self._steps * phase.epochs
        seed = trainer.plan.seed + 7919 * progress.phase
        first = epoch * self._steps
        rates = [phase.rate_at(first + step, total_steps=total) for step in range(self._steps)]
        decoder = np.asarray(rates, np.float32)
        order = rows_of_epoch(
            epoch, images=len(trainer.train), batch_images=phase.batch_images, seed=seed
        )
        schedule = Schedule(
            jnp.asarray(order, jnp.int32),
            jnp.asarray(decoder),
            jnp.asarray(decoder * trainer.plan.encoder_rate),
            jax.random.fold_in(jax.random.key(seed), epoch),
        )
        self._learning, self._state, loss = self._pass(
            self._learning, self._state, self._staying, self._material, schedule
        )
        trainer.refuse_divergence(
            phase, is_finite=bool(are_finite((self._learning, self._state, loss)))
        )
        progress.loss_sum = float(loss)
        progress.step += self._steps
        progress.global_step += self._steps
        left = (phase.epochs - epoch - 1) * (time.monotonic() - began)
        trainer.listener.on_step(
            StepReport(
                phase.kind,
                progress.step,
                total,
                progress.global_step,
                progress.loss_sum,
                rates[-1],
                left,
            )
        )

    def _judge(self, epoch: int) -> EpochReport:
        trainer, progress = self.trainer, self.progress
        tokens = self._caption(self._state.average, self._staying, trainer.dev_pixels)
        figures, captions = trainer.describe_dev(np.asarray(tokens))
        is_best = progress.note_epoch(figures["cider"])
        if is_best:
            self._network.assign(self._state.average)
            save_weights_whole(trainer.model, trainer.best_path)
        figures["loss"] = progress.loss_sum
        return EpochReport(
            self.phase.kind, epoch + 1, progress.global_step, figures, is_best, captions
        )

    def _save(self) -> None:
        arrays = jax.tree.leaves((self._learning, self._state))
        trainer = self.trainer
        save_checkpoint(trainer.checkpoint_path, self.progress, arrays, identity=trainer.identity)

    def _restore(self) -> None:
        leaves, shape = jax.tree.flatten((self._learning, self._state))
        arrays = read_arrays(self.trainer.checkpoint_path, len(leaves))
        restored: tuple[Weights, AdamState] = jax.tree.unflatten(shape, map(jnp.asarray, arrays))
        self._learning, self._state = restored
