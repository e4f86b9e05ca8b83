"""The captioner's Keras network as pure functions of its weights, for JAX to compile.

Shapes: B images · S image side · N grid cells · C channels · K captions of an image · T tokens of
a caption · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import keras

from models.captioner import Captioner
from models.decoding import END, PAD, START, DecodingParameters
from models.device_engine import decode_on_device
from models.training.selfcritical import sample_penalty

Array = Any
Weights = tuple[Array, ...]
Out = TypeVar("Out")


class Network:
    """A captioner whose weights are handed in: those that learn, and those that stay."""

    def __init__(self, model: Captioner) -> None:
        """Take what is trainable now as what learns."""
        self.model = model
        encoder = {id(v) for v in model.encoder.variables}
        learning = {id(v) for v in model.trainable_variables}
        floats = [v for v in model.variables if str(v.dtype).startswith("float")]
        self._learning = [v for v in floats if id(v) in learning]
        self._staying = [v for v in floats if id(v) not in learning]
        self._seeds = [v for v in model.variables if not str(v.dtype).startswith("float")]
        self.is_encoder = [id(v) in encoder for v in self._learning]
        """Of each weight that learns."""

    @property
    def learning(self) -> Weights:
        """Copies of the model's weights that learn, float32."""
        return tuple(jnp.array(v.value, jnp.float32) for v in self._learning)

    @property
    def staying(self) -> Weights:
        """The model's other weights."""
        return tuple(jnp.asarray(v.value, jnp.float32) for v in self._staying)

    def assign(self, learning: Sequence[Array]) -> None:
        """Let the model hold copies of these weights, which the next pass uses up."""
        for variable, value in zip(self._learning, learning, strict=True):
            variable.assign(jnp.array(value))

    def encode(self, learning: Weights, staying: Weights, pixels: Array) -> Array:
        """Features [B, N, C] of pixels float32 [B, S, S, 3], 0 to 255."""
        return self._with(learning, staying, None, lambda: self.model.encode(pixels))

    def logits(
        self,
        learning: Weights,
        staying: Weights,
        features: Array,
        tokens: Array,
        *,
        dropout: Array | None,
    ) -> Array:
        """Logits [B, K, T, V] after tokens int32 [B, K, T]; ``dropout`` is a random key."""
        count, captions, length = tokens.shape
        is_dropping = dropout is not None
        positions = jnp.tile(jnp.arange(length, dtype=jnp.int32), (count, captions))
        segments = jnp.repeat(jnp.arange(captions, dtype=jnp.int32), length)

        def run() -> Array:
            hidden = self.model.hidden_states(
                tokens.reshape(count, -1),
                self.model.memory(features, training=is_dropping),
                positions=positions,
                segments=jnp.broadcast_to(segments, positions.shape),
                training=is_dropping,
            )
            return self.model.project(hidden)

        found = self._with(learning, staying, dropout, run)
        return found.reshape(count, captions, length, -1)

    def draw(
        self,
        learning: Weights,
        staying: Weights,
        features: Array,
        chance: Array,
        *,
        samples: int,
    ) -> Array:
        """Captions int32 [B * samples, T] drawn by a random key; <start> left out, then <pad>."""

        def run() -> Array:
            cross = jnp.repeat(self.model.memory(features), samples, axis=2)
            rows = cross.shape[2]
            size = self.model.config.vocabulary_size
            first, later = (sample_penalty(size, first=is_first) for is_first in (True, False))

            def step(carry: Any, position: Array) -> Any:
                tokens, cache, ended = carry
                found, cache = self.model.step(tokens, position, cache, cross)
                noise = jax.random.gumbel(jax.random.fold_in(chance, position), found.shape)
                found = found + jnp.where(position == 0, first, later) + noise
                words = jnp.where(ended, PAD, found.argmax(-1).astype(jnp.int32))
                return (words, cache, ended | (words == END)), words

            start = jnp.full(rows, START, jnp.int32)
            begin = (start, self.model.empty_cache(rows), jnp.zeros(rows, bool))
            places = jnp.arange(self.model.config.max_length - 1, dtype=jnp.int32)
            _, drawn = jax.lax.scan(step, begin, places)
            return drawn.T

        return self._with(learning, staying, None, run)

    def search(
        self, learning: Weights, staying: Weights, features: Array, decoding: DecodingParameters
    ) -> Array:
        """Captions int32 [B, T + 1] as they would be served; see `DeviceSearch`."""
        decode, count = decode_on_device(self.model, decoding), features.shape[0]

        def run() -> Array:
            tokens, _ = decode(self.model.memory(features), jnp.asarray(count, jnp.int32))
            return tokens

        return self._with(learning, staying, None, run)

    def _with(
        self, learning: Weights, staying: Weights, dropout: Array | None, run: Callable[[], Out]
    ) -> Out:
        values = zip((*self._learning, *self._staying), (*learning, *staying), strict=True)
        mapping = list(values)
        if dropout is not None:
            for number, seed in enumerate(self._seeds):
                key = jax.random.fold_in(dropout, number)
                mapping.append((seed, jax.random.bits(key, seed.shape, jnp.uint32)))
        with keras.StatelessScope(state_mapping=mapping):
            return run()
