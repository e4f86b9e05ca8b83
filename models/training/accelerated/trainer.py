"""`models.training.trainer.Trainer`, a pass over the photographs at a time.

Shapes: I images · S image side · K captions of an image · T tokens of a caption.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from conf.errors import ModelError
from models.captioner import Captioner
from models.decoding import PAD
from models.metrics import score_captions, split_by_rules
from models.tokenizer import Tokenizer, split_words
from models.training.accelerated.network import Network, Weights
from models.training.accelerated.optimizer import AdamState, AdamW
from models.training.accelerated.passes import (
    Loss,
    Photographs,
    Schedule,
    compile_captions,
    compile_pass,
    cross_entropy,
    self_critical,
)
from models.training.accelerated.reward import make_references
from models.training.batches import rows_of_epoch, steps_per_epoch
from models.training.checkpoint import (
    CHECKPOINT,
    Progress,
    read_arrays,
    read_progress,
    save_checkpoint,
)
from models.training.plan import Phase, TrainingPlan
from models.training.reports import EpochReport, Listener, StepReport
from models.training.shards import Shards
from models.training.weights import BEST, freeze_encoder, save_weights_whole

DEV_BATCH = 100
SIDES = frozenset({"left", "right"})


class AcceleratedTrainer:
    """Trains a captioner over shards that fit in the device's memory; best dev weights win.

    Unlike `Trainer`, all phases see freshly changed photographs at every step, self-critical
    training changes the encoder as fine-tuning does, dev is captioned greedily, and checkpoints
    are written after whole epochs.
    """

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
        self.train, self.dev, self.directory = train, dev, directory
        self.listener, self.is_stopping = listener, is_stopping
        self.best_path, self.checkpoint_path = directory / BEST, directory / CHECKPOINT
        self._starts_trained = starts_trained
        self.captions = _token_lists(train, tokenizer, max_length=model.config.max_length)
        self._refuse_too_many()

    @property
    def identity(self) -> str:
        """What a checkpoint must have been written by, to be gone on with."""
        data = self.train.fingerprint + self.dev.fingerprint
        return f"accelerated {self.plan.to_json()}{self.model.config.to_json()}{data}"

    def run(self) -> Progress:
        """Train through all phases; ends early, with a checkpoint, when ``is_stopping``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.photographs = Photographs(
            jnp.asarray(self.train.pixels.take(np.arange(len(self.train)))),
            jnp.asarray(self.captions),
            jnp.asarray([not _tells_sides(texts) for texts in self.train.captions]),
            jnp.arange(len(self.train), dtype=jnp.int32),
        )
        self.dev_pixels = jnp.asarray(_padded(self.dev, DEV_BATCH))
        progress = read_progress(self.checkpoint_path, identity=self.identity)
        resumed = progress is not None
        progress = progress or Progress(best=self._begin())
        while progress.phase < len(self.plan.phases) and not self.is_stopping():
            _PhaseRun(self, self.plan.phases[progress.phase], progress, resumed=resumed).finish()
            resumed = False
        if self.best_path.exists():
            self.model.load_weights(str(self.best_path))
        return progress

    def _begin(self) -> float:
        """Return the dev CIDEr to beat, and keep the weights that reach it."""
        if not self._starts_trained:
            return Progress.best
        network = Network(self.model)
        tokens = compile_captions(network, batch=DEV_BATCH)(
            network.learning, network.staying, self.dev_pixels
        )
        figures, captions = self.describe_dev(np.asarray(tokens))
        save_weights_whole(self.model, self.best_path)
        self.listener.on_epoch(EpochReport("initial model", 0, 0, figures, True, captions))
        return figures["cider"]

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
        if room is not None and needed > 0.7 * room:
            raise ModelError(
                f"{needed >> 20} MiB of photographs don't fit in the device's {room >> 20} MiB.",
                remedy="Train with --trainer tensorflow, which streams them from disk.",
            )


class _PhaseRun:
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
        self._caption = compile_captions(network, batch=DEV_BATCH)
        self._steps = steps_per_epoch(len(trainer.train), batch_images=phase.batch_images)

    def _loss(self) -> Loss:
        if self.phase.kind != "self_critical":
            return cross_entropy(self._network, label_smoothing=self.phase.label_smoothing)
        references = make_references(self.trainer.captions[..., 1:])
        return self_critical(self._network, references, samples=self.phase.samples)

    def finish(self) -> None:
        """Run the phase's remaining epochs, each followed by a checkpoint."""
        progress, phase = self.progress, self.phase
        for epoch in range(progress.step // self._steps, phase.epochs):
            if progress.stale_epochs >= phase.patience:
                break
            if self.trainer.is_stopping():
                return
            self._train(epoch)
            self._judge(epoch)
            self._save()
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
            self._learning, self._state, self._staying, trainer.photographs, schedule
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

    def _judge(self, epoch: int) -> None:
        trainer, progress = self.trainer, self.progress
        tokens = self._caption(self._state.average, self._staying, trainer.dev_pixels)
        figures, captions = trainer.describe_dev(np.asarray(tokens))
        is_best = figures["cider"] > progress.best
        if is_best:
            self._network.assign(self._state.average)
            save_weights_whole(trainer.model, trainer.best_path)
        progress.best = max(progress.best, figures["cider"])
        progress.stale_epochs = 0 if is_best else progress.stale_epochs + 1
        figures["loss"] = progress.loss_sum
        trainer.listener.on_epoch(
            EpochReport(
                self.phase.kind, epoch + 1, progress.global_step, figures, is_best, captions
            )
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


def _token_lists(shards: Shards, tokenizer: Tokenizer, *, max_length: int) -> npt.NDArray[np.int32]:
    """Captions int32 [I, K, T] from <start> to <end>, then <pad>."""
    most = max(map(len, shards.captions))
    tokens = np.full((len(shards), most, max_length), PAD, np.int32)
    for image, texts in enumerate(shards.captions):
        for number, text in enumerate(texts):
            caption = tokenizer.encode(text, max_length=max_length)
            tokens[image, number, : len(caption)] = caption
    return tokens


def _tells_sides(captions: Sequence[str]) -> bool:
    """Whether a caption tells left from right, so that a mirrored photograph would belie it."""
    return any(SIDES & set(split_words(text)) for text in captions)


def _padded(shards: Shards, multiple: int) -> npt.NDArray[Any]:
    """All pixels uint8 [I, S, S, 3], I rounded up to a multiple with black ones."""
    pixels = shards.pixels.take(np.arange(len(shards)))
    return np.pad(pixels, ((0, -len(pixels) % multiple), (0, 0), (0, 0), (0, 0)))
