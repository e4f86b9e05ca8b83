"""Exponential moving average of weights, which captions better than the last step's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf
from keras import ops


class MovingAverage:
    """Averages of some variables, kept as variables of its own."""

    def __init__(self, variables: Sequence[keras.Variable], *, decay: float) -> None:
        self._live = list(variables)
        self._decay = decay
        self.variables = [keras.Variable(v, trainable=False, name="average") for v in variables]
        self._compiled = tf.function(self._update)

    def update(self, step: int) -> None:
        """Take in the weights after a step (from 0); the decay is smaller at first."""
        kept = min(self._decay, (1 + step) / (10 + step))
        self._compiled(tf.constant(kept, tf.float32))

    def _update(self, kept: tf.Tensor) -> None:
        for average, live in zip(self.variables, self._live, strict=True):
            average.assign(live + (average - live) * kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model hold the averaged weights within the block."""
        kept = [ops.copy(live.value) for live in self._live]
        for live, average in zip(self._live, self.variables, strict=True):
            live.assign(average)
        try:
            yield
        finally:
            for live, value in zip(self._live, kept, strict=True):
                live.assign(value)
