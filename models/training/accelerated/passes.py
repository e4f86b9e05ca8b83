"""One pass over all photographs as one compiled program: what a step minimises, and its loop.

Shapes: I images · B images of a step · S image side · K captions of an image · T tokens after
<start> · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.decoding import PAD, START, UNKNOWN, DecodingParameters
from models.training.accelerated.augment import augment
from models.training.accelerated.network import Network
from models.training.accelerated.optimizer import AdamState, AdamW
from models.training.accelerated.reward import References, score

Array = Any
Weights = tuple[Array, ...]
MOST_CAPTIONS = 5
"""Captions of an image that a step learns."""


class Photographs(NamedTuple):
    """What is trained on, in the device's memory."""

    pixels: Array
    """uint8 [I, S, S, 3]."""
    captions: Array
    """int32 [I, K, T + 1] from <start> to <end>, then <pad>; all <pad> past an image's own."""
    may_mirror: Array
    """bool [I]."""
    rows: Array
    """int32 [I], 0 to I - 1: which references are an image's."""


class Material(NamedTuple):
    """What lies on the device throughout."""

    photographs: Photographs
    references: References | None
    """What samples are rewarded by; None without self-critical training."""


class Schedule(NamedTuple):
    """What a pass does when."""

    rows: Array
    """Photographs of each step, int32 [steps, B]."""
    decoder_rates: Array
    """Learning rate of each step, float32 [steps]."""
    encoder_rates: Array
    """Likewise, of the encoder's weights."""
    key: Array
    """Random key of the pass."""


Loss = Callable[[Weights, Weights, Material, Array], Array]
"""Of what learns, what stays, a step's photographs [B, ...] with all references, a random key."""
Pass = Callable[..., tuple[Weights, AdamState, Array]]


def cross_entropy(network: Network, *, label_smoothing: float) -> Loss:
    """Loss against the human captions, <unk> left out; ``label_smoothing`` is spread over V.

    Of an image with more than `MOST_CAPTIONS`, so many are drawn at each step.
    """

    def loss(learning: Weights, staying: Weights, material: Material, key: Array) -> Array:
        batch = material.photographs
        changes, dropout, choice = jax.random.split(key, 3)
        images = augment(batch.pixels, batch.may_mirror, changes)
        features = network.encode(learning, staying, images)
        captions = _some_captions(batch.captions, choice)
        inputs, targets = captions[..., :-1], captions[..., 1:]
        logits = network.logits(learning, staying, features, inputs, dropout=dropout)
        said = jax.nn.log_softmax(logits, axis=-1)
        losses = -(1.0 - label_smoothing) * _of_targets(said, targets)
        losses = losses - label_smoothing * said.mean(-1)
        counts = (targets != PAD) & (targets != UNKNOWN)
        return jnp.where(counts, losses, 0.0).sum() / (targets != PAD).sum()

    return loss


def _some_captions(captions: Array, key: Array) -> Array:
    """At most `MOST_CAPTIONS` of captions [B, K, T + 1], for none to make every step longer."""
    count, most, _ = captions.shape
    if most <= MOST_CAPTIONS:
        return captions
    chances = jax.random.uniform(key, (count, most)) + (captions[..., 0] != PAD)
    _, chosen = jax.lax.top_k(chances, MOST_CAPTIONS)
    return jnp.take_along_axis(captions, chosen[..., None], axis=1)


def self_critical(network: Network, *, samples: int) -> Loss:
    """Loss whose gradient raises CIDEr-D of the network's own samples (Rennie et al. 2017).

    Each sample's baseline is the mean reward of the image's other samples. No dropout: samples are
    trained on as the network was that drew them. Its value is that of the policy gradient's
    surrogate, which tells little; see dev.
    """

    def loss(learning: Weights, staying: Weights, material: Material, key: Array) -> Array:
        batch, references = material
        changes, chance = jax.random.split(key)
        images = augment(batch.pixels, batch.may_mirror, changes)
        features = network.encode(learning, staying, images)
        drawn = jax.lax.stop_gradient(
            network.draw(learning, staying, features, chance, samples=samples)
        )
        rewards = score(drawn, jnp.repeat(batch.rows, samples), _given(references))
        rewards = rewards.reshape(-1, samples)
        others = (rewards.sum(1, keepdims=True) - rewards) / (samples - 1)
        targets = drawn.reshape(-1, samples, drawn.shape[1])
        starts = jnp.full_like(targets[..., :1], START)
        inputs = jnp.concatenate([starts, targets[..., :-1]], axis=-1)
        logits = network.logits(learning, staying, features, inputs, dropout=None)
        chosen = _of_targets(jax.nn.log_softmax(logits, axis=-1), targets)
        weighed = -chosen * jax.lax.stop_gradient(rewards - others)[..., None]
        counts = targets != PAD
        return jnp.where(counts, weighed, 0.0).sum() / counts.sum()

    return loss


def _given(references: References | None) -> References:
    if references is None:
        raise ValueError("self-critical training needs references")
    return references


def _of_targets(said: Array, targets: Array) -> Array:
    return jnp.take_along_axis(said, targets[..., None], axis=-1)[..., 0]


def compile_pass(network: Network, optimizer: AdamW, loss: Loss) -> Pass:
    """Compile all steps of a pass.

    The program takes what learns and the optimiser's state (both are used up), what stays, the
    material and the schedule; it returns what learnt, the new state and the mean loss.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def run(
        learning: Weights,
        state: AdamState,
        staying: Weights,
        material: Material,
        schedule: Schedule,
    ) -> tuple[Weights, AdamState, Array]:
        def step(carry: Any, now: Any) -> Any:
            learning, state = carry
            rows, decoder_rate, encoder_rate, number = now
            chosen = Photographs(*(part[rows] for part in material.photographs))
            batch = material._replace(photographs=chosen)
            chance = jax.random.fold_in(schedule.key, number)
            value, gradients = jax.value_and_grad(loss)(learning, staying, batch, chance)
            rates = [encoder_rate if inside else decoder_rate for inside in network.is_encoder]
            return optimizer.apply(learning, gradients, state, rates), value

        steps = (*schedule[:3], jnp.arange(len(schedule.rows)))
        (learning, state), losses = jax.lax.scan(step, (learning, state), steps)
        return learning, state, losses.mean()

    return run


@jax.jit
def are_finite(arrays: Any) -> Array:
    """Whether all numbers are finite, bool, in arrays however nested."""
    return jnp.stack([jnp.isfinite(array).all() for array in jax.tree.leaves(arrays)]).all()


def compile_captions(
    network: Network, decoding: DecodingParameters, *, batch: int
) -> Callable[..., Array]:
    """Compile captions int32 [I, T + 1] of pixels uint8 [I, S, S, 3], ``batch`` at a time.

    The program takes what learns, what stays and the pixels; I is a multiple of ``batch``. The
    search is that of `models.device_generation`; what follows an <end> means nothing.
    """

    @jax.jit
    def run(learning: Weights, staying: Weights, pixels: Array) -> Array:
        def caption(part: Array) -> Array:
            features = network.encode(learning, staying, part.astype(jnp.float32))
            return network.search(learning, staying, features, decoding)

        parts = pixels.reshape(-1, batch, *pixels.shape[1:])
        return jax.lax.map(caption, parts).reshape(len(pixels), -1)

    return run
