"""Captions of the dev photographs under the weights of the moment.

Shapes: B images · N grid cells · C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.captioner import Captioner
from models.decoding import DecodingParameters
from models.generation import generate
from models.keras_engine import KerasDecoder
from models.tokenizer import Tokenizer
from models.training.features import Encode, encode_rows
from models.training.shards import Shards

IMAGES_AT_ONCE = 64


class DevCaptioner:
    """Captions features with whatever weights the model holds at the moment."""

    def __init__(self, model: Captioner, tokenizer: Tokenizer, *, beam_width: int) -> None:
        self._memory = tf.function(model.memory, reduce_retracing=True)
        self._decoder = KerasDecoder(model, rows=IMAGES_AT_ONCE * beam_width)
        self._decoding = DecodingParameters(beam_width=beam_width)
        self._tokenizer = tokenizer

    def caption(
        self, features: npt.NDArray[Any], *, length_penalty: float | None = None
    ) -> list[str]:
        """Captions of features [B, N, C], in order."""
        decoding = self._decoding
        if length_penalty is not None:
            decoding = replace(decoding, length_penalty=length_penalty)
        captions = []
        for first in range(0, len(features), IMAGES_AT_ONCE):
            chosen = np.asarray(features[first : first + IMAGES_AT_ONCE], np.float32)
            memory = self._memory(chosen).numpy()
            memory = memory.reshape(-1, *memory.shape[2:])
            found = generate([self._decoder], memory, decoding)
            captions += [self._tokenizer.decode(decoded.tokens) for decoded in found]
        return captions


def encode_shards(model: Captioner, shards: Shards) -> Iterator[npt.NDArray[np.float16]]:
    """Features [B, N, C] of all photographs in order, under the weights of the moment."""
    return encode_rows(numpy_encoder(model), shards, np.arange(len(shards)))


def numpy_encoder(model: Captioner) -> Encode:
    """The model's encoder as one graph from pixels uint8 [B, S, S, 3] to features [B, N, C]."""
    # Without an explicit compile TensorFlow leaves XLA off, which slows depthwise nets on CPUs.
    encode = tf.function(model.encode, reduce_retracing=True)
    return lambda pixels: np.asarray(encode(pixels))
