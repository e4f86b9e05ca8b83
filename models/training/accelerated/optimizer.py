"""AdamW (Loshchilov and Hutter 2019) and a moving average of the weights, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

Array = Any
Weights = tuple[Array, ...]

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.98, 1e-7


class AdamState(NamedTuple):
    """What the optimiser remembers."""

    step: Array
    """int32, steps done."""
    mean: Weights
    square: Weights
    average: Weights
    """Moving average of the weights, which captions better than the last step's weights."""


@dataclass(frozen=True)
class AdamW:
    """How weights move.

    Attributes:
        weight_decay: of each weight, relative to the learning rate.
        clip_norm: greatest norm of all gradients together.
        average_decay: share of the average that a step keeps; less at first.
    """

    weight_decay: tuple[float, ...]
    clip_norm: float
    average_decay: float

    def begin(self, weights: Weights) -> AdamState:
        """Return the state before the first step."""
        zeros = [tuple(jnp.zeros_like(weight) for weight in weights) for _ in range(2)]
        copies = tuple(jnp.array(weight) for weight in weights)
        return AdamState(jnp.zeros((), jnp.int32), zeros[0], zeros[1], copies)

    def apply(
        self, weights: Weights, gradients: Weights, state: AdamState, rates: Sequence[Array]
    ) -> tuple[Weights, AdamState]:
        """Take one step with a learning rate for each weight."""
        norm = jnp.sqrt(sum((gradient**2).sum() for gradient in gradients))
        scale = jnp.minimum(1.0, self.clip_norm / jnp.maximum(norm, 1e-9))
        step = state.step + 1
        kept = jnp.minimum(self.average_decay, (1.0 + step) / (10.0 + step))
        first_bias, second_bias = 1 - FIRST_DECAY**step, 1 - SECOND_DECAY**step
        moved, means, squares, averages = [], [], [], []
        for weight, gradient, mean, square, average, rate, decay in zip(
            weights, gradients, *state[1:], rates, self.weight_decay, strict=True
        ):
            clipped = gradient * scale
            means.append(FIRST_DECAY * mean + (1 - FIRST_DECAY) * clipped)
            squares.append(SECOND_DECAY * square + (1 - SECOND_DECAY) * clipped**2)
            deviation = jnp.sqrt(squares[-1] / second_bias) + EPSILON
            direction = means[-1] / first_bias / deviation + decay * weight
            moved.append(weight - rate * direction)
            averages.append(moved[-1] + (average - moved[-1]) * kept)
        state = AdamState(step, tuple(means), tuple(squares), tuple(averages))
        return tuple(moved), state
