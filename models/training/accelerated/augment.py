"""Changes to photographs that leave their captions true, on the device that trains.

Shapes: B images · S image side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = Any


class Changes(NamedTuple):
    """How far a copy may be from its photograph."""

    smallest_side: float = 0.7
    """Least share of each side that a crop keeps."""
    brightness: float = 0.3
    """Most that all channels are scaled by, either way; contrast and saturation likewise."""
    tint: float = 0.1
    """Most that one channel is scaled by, either way."""
    mirrored: float = 0.5
    """Share of the photographs that are mirrored, of those that may be."""


DEFAULT_CHANGES = Changes()


def augment(
    pixels: Array, may_mirror: Array, key: Array, changes: Changes = DEFAULT_CHANGES
) -> Array:
    """Cropped, tinted and mirrored copies float32 [B, S, S, 3], 0 to 255, of uint8 pixels.

    Photographs whose captions tell left from right aren't mirrored: ``may_mirror`` bool [B].
    """
    count, side = pixels.shape[0], pixels.shape[1]
    keys = jax.random.split(key, 4)
    shares = jax.random.uniform(keys[0], (count, 2), minval=changes.smallest_side)
    corners = jax.random.uniform(keys[1], (count, 2)) * (1.0 - shares)
    mirrored = may_mirror & (jax.random.uniform(keys[2], (count,)) < changes.mirrored)
    rows = _interpolation(corners[:, 0], shares[:, 0], jnp.zeros(count, bool), side)
    columns = _interpolation(corners[:, 1], shares[:, 1], mirrored, side)
    images = pixels.astype(jnp.bfloat16)
    images = jnp.einsum("bij,bjkc->bikc", rows, images)
    images = jnp.einsum("blk,bikc->bilc", columns, images).astype(jnp.float32)
    return _tint(images, keys[3], changes)


def _interpolation(corner: Array, share: Array, mirrored: Array, side: int) -> Array:
    """Weights [B, S, S] by which an output row sums up the rows of a photograph (bilinear)."""
    places = (jnp.arange(side) + 0.5) / side
    places = jnp.where(mirrored[:, None], 1.0 - places, places)
    sources = (corner[:, None] + places * share[:, None]) * side - 0.5
    sources = jnp.clip(sources, 0.0, side - 1.0)
    distances = jnp.abs(sources[:, :, None] - jnp.arange(side)[None, None])
    return jnp.maximum(0.0, 1.0 - distances).astype(jnp.bfloat16)


def _tint(images: Array, key: Array, changes: Changes) -> Array:
    keys = jax.random.split(key, 4)
    count, most = len(images), changes.brightness

    def factors(number: int, channels: int, most: float) -> Array:
        shape = (count, 1, 1, channels)
        return jax.random.uniform(keys[number], shape, minval=1 - most, maxval=1 + most)

    images = images * factors(0, 1, most) * factors(1, 3, changes.tint)
    mean = images.mean((1, 2, 3), keepdims=True)
    images = mean + (images - mean) * factors(2, 1, most)
    grey = images.mean(3, keepdims=True)
    images = grey + (images - grey) * factors(3, 1, most)
    return jnp.clip(images, 0.0, 255.0)
