"""The transformer's layers: pre-norm attention and feed-forward, with a cached single step.

Shapes: B rows · T tokens · N grid cells · D width · h heads · Dh = D / h · S source length.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any

# Finite also in half precision, and still exp() = 0 beside any real score.
MASKED = -1.0e4


def _dense(width: int, out: int, name: str) -> keras.layers.Dense:
    layer = keras.layers.Dense(out, name=name)
    layer.build((None, None, width))
    return layer


def _norm(width: int, name: str) -> keras.layers.LayerNormalization:
    layer = keras.layers.LayerNormalization(epsilon=1e-5, name=name)
    layer.build((None, None, width))
    return layer


def split_heads(states: Tensor, heads: int) -> Tensor:
    """[B, S, D] to [B, h, S, Dh]."""
    length, width = ops.shape(states)[1], states.shape[-1]
    return ops.transpose(ops.reshape(states, (-1, length, heads, width // heads)), (0, 2, 1, 3))


def merge_heads(states: Tensor) -> Tensor:
    """[B, h, S, Dh] to [B, S, D]."""
    heads, length, head_width = states.shape[1], ops.shape(states)[2], states.shape[3]
    return ops.reshape(ops.transpose(states, (0, 2, 1, 3)), (-1, length, heads * head_width))


def attend(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
    """Scaled dot-product attention over [B, h, *, Dh]; ``visible`` is True where one may look."""
    scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
    scores = scores * (queries.shape[-1] ** -0.5)
    if visible is not None:
        scores = ops.where(visible, scores, ops.cast(MASKED, scores.dtype))
    return ops.matmul(ops.softmax(scores, axis=-1), values)


class FeedForward(keras.layers.Layer):
    """Pre-norm feed-forward block with its residual, [B, T, D] to the same."""

    def __init__(self, width: int, ffn: int, dropout: float, **options: Any) -> None:
        super().__init__(**options)
        self.norm = _norm(width, "norm")
        self.inner = _dense(width, ffn, "inner")
        self.outer = _dense(ffn, width, "outer")
        self.dropout = keras.layers.Dropout(dropout)
        self.built = True

    def call(self, states: Tensor, training: bool = False) -> Tensor:
        """Add the block's output to its input."""
        inner = self.dropout(ops.relu(self.inner(self.norm(states))), training=training)
        return states + self.dropout(self.outer(inner), training=training)


class GridLayer(keras.layers.Layer):
    """Self-attention over the encoder's grid, [B, N, D] to the same."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads
        self.norm = _norm(width, "norm")
        self.qkv = _dense(width, 3 * width, "qkv")
        self.out = _dense(width, width, "out")
        self.dropout = keras.layers.Dropout(dropout)
        self.feed_forward = FeedForward(width, ffn, dropout, name="feed_forward")
        self.built = True

    def call(self, cells: Tensor, training: bool = False) -> Tensor:
        """Let every cell look at every other."""
        parts = ops.split(self.qkv(self.norm(cells)), 3, axis=-1)
        queries, keys, values = (split_heads(part, self.heads) for part in parts)
        mixed = self.out(merge_heads(attend(queries, keys, values, None)))
        cells = cells + self.dropout(mixed, training=training)
        return self.feed_forward(cells, training=training)


class CrossKeysValues(keras.layers.Layer):
    """Keys and values that one decoder layer reads from the grid, computed once per image."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads
        self.kv = _dense(width, 2 * width, "kv")
        self.built = True

    def call(self, cells: Tensor) -> Tensor:
        """[B, N, D] to [2, B, h, N, Dh]."""
        return ops.stack(self.pair(cells), axis=0)

    def pair(self, cells: Tensor) -> list[Tensor]:
        """[B, N, D] to keys and values, each [B, h, N, Dh]."""
        parts = ops.split(self.kv(cells), 2, axis=-1)
        return [split_heads(part, self.heads) for part in parts]


class DecoderLayer(keras.layers.Layer):
    """Causal self-attention, cross-attention and feed-forward, each pre-norm and residual."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads
        self.self_norm = _norm(width, "self_norm")
        self.self_qkv = _dense(width, 3 * width, "self_qkv")
        self.self_out = _dense(width, width, "self_out")
        self.cross_norm = _norm(width, "cross_norm")
        self.cross_query = _dense(width, width, "cross_query")
        self.cross_out = _dense(width, width, "cross_out")
        self.dropout = keras.layers.Dropout(dropout)
        self.feed_forward = FeedForward(width, ffn, dropout, name="feed_forward")
        self.built = True

    def call(
        self, hidden: Tensor, visible: Tensor, cross: Tensor, training: bool = False
    ) -> Tensor:
        """All tokens at once: hidden [B, T, D], visible [*, 1, T, T], cross [2, B, h, N, Dh]."""
        queries, keys, values = self._self_parts(hidden)
        mixed = self.self_out(merge_heads(attend(queries, keys, values, visible)))
        return self._look_and_think(hidden, mixed, cross, training=training)

    def step(
        self, hidden: Tensor, position: Tensor, cache: Tensor, cross: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One token: hidden [B, 1, D], position int32 [1], cache [2, B, h, T, Dh]."""
        queries, key, value = self._self_parts(hidden)
        places = ops.arange(cache.shape[3], dtype="int32")
        # A masked write keeps every shape static, which compilers and OpenVINO want.
        here = ops.reshape(places == position, (1, 1, -1, 1))
        keys = ops.where(here, key, cache[0])
        values = ops.where(here, value, cache[1])
        visible = ops.reshape(places <= position, (1, 1, 1, -1))
        mixed = self.self_out(merge_heads(attend(queries, keys, values, visible)))
        hidden = self._look_and_think(hidden, mixed, cross, training=False)
        return hidden, ops.stack([keys, values], axis=0)

    def extend(
        self, hidden: Tensor, earlier: Tensor, cache: list[Tensor], cross: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One token that leaves the cache alone: the new hidden [B, 1, D], key and value.

        ``cache`` holds keys and values [B, h, T, Dh], of which ``earlier`` bool [1, 1, 1, T] says
        which places count; the caller writes the new key and value [B, h, 1, Dh] itself. Spares
        an exported graph from copying whole caches at every step.
        """
        queries, key, value = self._self_parts(hidden)
        scale = queries.shape[-1] ** -0.5
        before = ops.matmul(queries, ops.transpose(cache[0], (0, 1, 3, 2))) * scale
        before = ops.where(earlier, before, ops.cast(MASKED, before.dtype))
        own = ops.sum(queries * key, axis=-1, keepdims=True) * scale
        weights = ops.softmax(ops.concatenate([before, own], axis=-1), axis=-1)
        mixed = ops.matmul(weights[..., :-1], cache[1]) + weights[..., -1:] * value
        mixed = self.self_out(merge_heads(mixed))
        return self._look_and_think(hidden, mixed, cross, training=False), key, value

    def _self_parts(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = ops.split(self.self_qkv(self.self_norm(hidden)), 3, axis=-1)
        queries, keys, values = (split_heads(part, self.heads) for part in parts)
        return queries, keys, values

    def _look_and_think(
        self, hidden: Tensor, mixed: Tensor, cross: Tensor, *, training: bool
    ) -> Tensor:
        hidden = hidden + self.dropout(mixed, training=training)
        queries = split_heads(self.cross_query(self.cross_norm(hidden)), self.heads)
        seen = self.cross_out(merge_heads(attend(queries, cross[0], cross[1], None)))
        hidden = hidden + self.dropout(seen, training=training)
        return self.feed_forward(hidden, training=training)
