"""One optimiser step, and the sampling of captions for self-critical training, in TensorFlow.

Shapes: B images · N grid cells · C channels · T packed tokens · M tokens that count · V
vocabulary · K samples per image · S steps of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.captioner import Captioner
from models.tokenizer import END, PAD, START
from models.training.batches import Packed
from models.training.selfcritical import sample_penalty

Tensor = Any


class TrainStep:
    """Applies one optimiser step; ``weights`` of a batch may be rewards of either sign."""

    def __init__(
        self,
        model: Captioner,
        *,
        label_smoothing: float,
        weight_decay: float,
        clip_norm: float,
        encoder_rate: float,
        dropout: bool = True,
    ) -> None:
        """Train whatever is trainable now; the encoder at ``encoder_rate`` times the rate.

        Sampled captions are trained on without ``dropout``, as the network was that drew them.
        """
        self.model = model
        encoder = list(model.encoder.trainable_variables)
        inside = {id(variable) for variable in encoder}
        decoder = [v for v in model.trainable_variables if id(v) not in inside]
        self.variables = [*decoder, *encoder]
        self._parts = [(_optimizer(decoder, weight_decay), 1.0, slice(0, len(decoder)))]
        if encoder:
            rest = slice(len(decoder), None)
            self._parts.append((_optimizer(encoder, 0.0), encoder_rate, rest))
        self._label_smoothing, self._clip_norm = label_smoothing, clip_norm
        self._dropout = dropout
        self._compiled = tf.function(self._run, reduce_retracing=True)

    @property
    def state(self) -> list[keras.Variable]:
        """Everything the optimisers remember."""
        return [v for optimizer, _, _ in self._parts for v in optimizer.variables]

    def __call__(self, images: npt.NDArray[Any], packed: Packed, *, rate: float) -> Tensor:
        """Loss (scalar tensor) on images: features [B, N, C], or pixels uint8 [B, S, S, 3]."""
        for optimizer, factor, _ in self._parts:
            optimizer.learning_rate.assign(rate * factor)
        return self._compiled(tf.constant(images), *map(tf.constant, packed))

    def _run(self, images: Tensor, *packed: Tensor) -> Tensor:
        batch = Packed(*packed)
        with tf.GradientTape() as tape:
            loss = self._loss(images, batch)
        gradients = tape.gradient(loss, [v.value for v in self.variables])
        gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        for optimizer, _, part in self._parts:
            optimizer.apply(gradients[part], self.variables[part])
        return loss

    def _loss(self, images: Tensor, batch: Packed) -> Tensor:
        model = self.model
        is_pixels = len(images.shape) == 4
        features = model.encode(images) if is_pixels else tf.cast(images, model.compute_dtype)
        hidden = model.hidden_states(
            batch.tokens,
            model.memory(features, training=self._dropout),
            positions=batch.positions,
            segments=batch.segments,
            training=self._dropout,
        )
        # Only the places that count go through the vocabulary, the widest product of all.
        counts = tf.not_equal(batch.weights, 0.0)
        logits = model.project(tf.boolean_mask(hidden, counts))
        targets = tf.boolean_mask(batch.targets, counts)
        losses = _smoothed_loss(logits, targets, self._label_smoothing)
        asked = tf.reduce_sum(tf.cast(tf.not_equal(batch.targets, PAD), "float32"))
        return tf.reduce_sum(losses * tf.boolean_mask(batch.weights, counts)) / asked


def _optimizer(variables: list[keras.Variable], weight_decay: float) -> keras.optimizers.AdamW:
    optimizer = keras.optimizers.AdamW(1e-4, weight_decay=weight_decay, beta_2=0.98)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    optimizer.build(variables)
    return optimizer


def _smoothed_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy [M] against the target with ``smoothing`` spread over the vocabulary."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    if smoothing == 0.0:
        return losses
    spread = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
    return (1.0 - smoothing) * losses + smoothing * spread


class Sampler:
    """Draws captions from the model, as self-critical training needs them."""

    def __init__(self, model: Captioner, *, samples: int) -> None:
        self.model = model
        self._samples = samples
        self._compiled = tf.function(self._draw, reduce_retracing=True)

    def __call__(
        self, features: npt.NDArray[Any], *, seed: tuple[int, int]
    ) -> list[list[list[int]]]:
        """K captions per image of features [B, N, C]: tokens from <start> to <end>."""
        drawn = self._compiled(tf.constant(features), tf.constant(seed, tf.int32)).numpy()
        per_image = drawn.reshape(len(features), self._samples, -1)
        return [[close_caption(row) for row in rows] for rows in per_image]

    def _draw(self, features: Tensor, seed: Tensor) -> Tensor:
        model = self.model
        cross = model.memory(tf.cast(features, model.compute_dtype))
        cross = tf.repeat(cross, self._samples, axis=2)
        rows = tf.shape(cross)[2]
        tokens = tf.fill([rows], START)
        cache = model.empty_cache(rows)
        ended = tf.zeros([rows], tf.bool)
        drawn = []
        for position in range(model.config.max_length - 1):
            logits, cache = model.step(tokens, tf.constant([position]), cache, cross)
            logits = logits + sample_penalty(model.config.vocabulary_size, first=position == 0)
            # Every step of the training and every position draw from a stream of their own.
            stream = seed * tf.constant([1, 1024]) + tf.constant([0, position])
            choice = tf.random.stateless_categorical(logits, 1, stream, tf.int32)
            tokens = tf.where(ended, PAD, choice[:, 0])
            ended = tf.logical_or(ended, tf.equal(tokens, END))
            drawn.append(tokens)
        return tf.stack(drawn, axis=1)


def close_caption(tokens: Sequence[int] | npt.NDArray[np.int32]) -> list[int]:
    """<start>, the words up to <end> or the last one, and <end> if it was drawn."""
    drawn = [int(token) for token in tokens if token != PAD]
    return [START, *drawn]
