"""The caption model: CNN encoder, feature grid, transformer decoder with cached keys and values.

Shapes: B images · H, W pixels · N grid cells · C encoder channels · D width · L decoder layers ·
h heads · Dh = D / h · T tokens (``max_length`` in a cache) · V vocabulary.
Everything is ``keras.ops``, so that TensorFlow and JAX both run it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from conf.errors import ModelError
from models.attention import CrossKeysValues, DecoderLayer, GridLayer
from models.encoders import ENCODERS, build_encoder, load_all_weights

Tensor = Any


@dataclass(frozen=True)
class CaptionerConfig:
    """Everything that fixes the network's shape; stored as ``config.json`` in a package."""

    encoder: str
    image_size: int
    vocabulary_size: int
    max_length: int = 22
    """Longest token sequence, ``<start>`` and ``<end>`` included."""
    width: int = 256
    depth: int = 2
    heads: int = 8
    ffn: int = 1024
    grid_depth: int = 1
    """Self-attention layers over the encoder's grid, run once per image."""
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ModelError(
                f"There is no encoder named {self.encoder!r}.",
                remedy=f"Choose one of {', '.join(sorted(ENCODERS))}.",
            )
        if self.width % self.heads:
            raise ModelError(
                f"The width {self.width} does not divide into {self.heads} heads.",
                remedy="Choose a width that is a multiple of the heads.",
            )

    def to_json(self) -> str:
        """Canonical JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CaptionerConfig:
        """Read what ``to_json`` wrote; raises ModelError when it isn't that."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"The model's config.json is not readable ({error}).",
                remedy="Give a package that train_captioner wrote.",
            ) from error


@keras.saving.register_keras_serializable("captionlake")
class Captioner(keras.Model):
    """Photograph to words: ``encode`` once, ``memory`` once, then ``step`` per token."""

    def __init__(self, config: CaptionerConfig, *, encoder_weights: str | None = None) -> None:
        """Build every layer; ``encoder_weights`` is None, "imagenet" or a weights file."""
        super().__init__(name="captioner")
        self.config = config
        self.encoder = build_encoder(
            config.encoder, image_size=config.image_size, weights=encoder_weights
        )
        grid = self.encoder.output_shape[1:]
        self.grid_cells, self.channels = grid[0] * grid[1], grid[2]
        self._add_grid_layers()
        self._add_decoder_layers()
        self.built = True

    def _add_grid_layers(self) -> None:
        config = self.config
        self.feature_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="feature_norm")
        self.feature_norm.build((None, self.grid_cells, self.channels))
        self.feature_projection = keras.layers.Dense(config.width, name="feature_projection")
        self.feature_projection.build((None, self.grid_cells, self.channels))
        self.grid_position = self.add_weight(
            shape=(self.grid_cells, config.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="grid_position",
        )
        self.grid_layers = [
            GridLayer(config.width, config.heads, config.ffn, config.dropout, name=f"grid_{n}")
            for n in range(config.grid_depth)
        ]
        self.memory_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="memory_norm")
        self.memory_norm.build((None, None, config.width))
        self.feature_dropout = keras.layers.Dropout(config.dropout, name="feature_dropout")

    def _add_decoder_layers(self) -> None:
        config = self.config
        self.embedding = self.add_weight(
            shape=(config.vocabulary_size, config.width),
            initializer=keras.initializers.RandomNormal(stddev=config.width**-0.5),
            name="embedding",
        )
        self.position = self.add_weight(
            shape=(config.max_length, config.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="position",
        )
        self.output_bias = self.add_weight(
            shape=(config.vocabulary_size,), initializer="zeros", name="output_bias"
        )
        self.token_dropout = keras.layers.Dropout(config.dropout, name="token_dropout")
        self.cross_layers = [
            CrossKeysValues(config.width, config.heads, name=f"cross_{n}")
            for n in range(config.depth)
        ]
        self.decoder_layers = [
            DecoderLayer(config.width, config.heads, config.ffn, config.dropout, name=f"layer_{n}")
            for n in range(config.depth)
        ]
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="output_norm")
        self.output_norm.build((None, None, config.width))

    def encode(self, pixels: Tensor, training: bool = False) -> Tensor:  # noqa: ARG002
        """Features [B, N, C] float of pixels [B, H, W, 3], RGB values 0 to 255 of any dtype.

        Batch statistics stay those of the pretrained encoder, also in training.
        """
        grid = self.encoder(ops.cast(pixels, self.compute_dtype), training=False)
        return ops.reshape(grid, (-1, self.grid_cells, self.channels))

    def memory(self, features: Tensor, training: bool = False) -> Tensor:
        """Cross-attention keys and values [L, 2, B, h, N, Dh] of features [B, N, C]."""
        cells = self.cells(features, training=training)
        return ops.stack([layer(cells) for layer in self.cross_layers], axis=0)

    def cells(self, features: Tensor, training: bool = False) -> Tensor:
        """What the decoder looks at, [B, N, D], of features [B, N, C]."""
        normed = self.feature_dropout(self.feature_norm(features), training=training)
        cells = self.feature_projection(normed)
        cells = cells + ops.cast(self.grid_position, cells.dtype)
        for layer in self.grid_layers:
            cells = layer(cells, training=training)
        return self.memory_norm(cells)

    def step(
        self, tokens: Tensor, position: Tensor, cache: Tensor, cross: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Next-token logits [B, V] and the new cache, for tokens int32 [B] at one position.

        ``position`` is an int32 scalar (or [1]), 0 for ``<start>``; ``cache`` [L, 2, B, h, T, Dh]
        keeps its shape (start with zeros); ``cross`` comes from ``memory``.
        """
        position = ops.reshape(position, (1,))
        place = ops.take(self.position, position, axis=0)
        hidden = ops.expand_dims(self.embed(tokens, place), axis=1)
        caches = []
        for number, layer in enumerate(self.decoder_layers):
            hidden, new = layer.step(hidden, position, cache[number], cross[number])
            caches.append(new)
        return self.project(hidden)[:, 0], ops.stack(caches, axis=0)

    def empty_cache(self, batch_size: int) -> Tensor:
        """Zeros [L, 2, B, h, T, Dh] to begin ``step`` with."""
        config = self.config
        head_width = config.width // config.heads
        shape = (config.depth, 2, batch_size, config.heads, config.max_length, head_width)
        return ops.zeros(shape, dtype=self.compute_dtype)

    def hidden_states(
        self,
        tokens: Tensor,
        cross: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Decoder states [B, T, D] for tokens int32 [B, T], each seeing only those before it.

        Several captions of one image may lie in one row: ``segments`` int32 [B, T] then numbers
        them, ``positions`` int32 [B, T] counts within each, and none sees another.
        """
        length = ops.shape(tokens)[1]
        if positions is None:
            positions = ops.broadcast_to(ops.arange(length, dtype="int32"), ops.shape(tokens))
        hidden = self.embed(tokens, ops.take(self.position, positions, axis=0))
        hidden = self.token_dropout(hidden, training=training)
        visible = _visible(length, segments)
        for number, layer in enumerate(self.decoder_layers):
            hidden = layer(hidden, visible, cross[number], training=training)
        return hidden

    def project(self, hidden: Tensor) -> Tensor:
        """Logits float32 [..., V] of decoder states [..., D], by the tied embedding."""
        normed = self.output_norm(hidden)
        table = ops.cast(self.embedding, normed.dtype)
        logits = ops.cast(ops.matmul(normed, ops.transpose(table)), "float32")
        return logits + ops.cast(self.output_bias, "float32")

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> Tensor:
        """Logits [B, T, V] under teacher forcing.

        ``inputs`` holds "features" [B, N, C] or "pixels" [B, H, W, 3], and "tokens" int32 [B, T].
        """
        features = inputs.get("features")
        if features is None:
            features = self.encode(inputs["pixels"], training=training)
        cross = self.memory(features, training=training)
        return self.project(self.hidden_states(inputs["tokens"], cross, training=training))

    def embed(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Decoder input of tokens int32 [B, ...] at places, their position vectors [..., D]."""
        words = ops.take(self.embedding, tokens, axis=0) * self.config.width**0.5
        return ops.cast(words + places, self.compute_dtype)


def _visible(length: Tensor, segments: Tensor | None) -> Tensor:
    """Boolean mask [1 or B, 1, T, T]: earlier or the same place, in the same segment."""
    places = ops.arange(length, dtype="int32")
    visible = (places[:, None] >= places[None, :])[None, None]
    if segments is None:
        return visible
    return ops.logical_and(visible, (segments[:, :, None] == segments[:, None, :])[:, None])


def load_captioner(config: CaptionerConfig, weights: Path) -> Captioner:
    """Build the model and read its ``.weights.h5``; raises ModelError naming the misfit."""
    model = Captioner(config)
    load_all_weights(model, weights, what="the model")
    return model
