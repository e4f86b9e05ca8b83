"""Which images come when, and their captions packed into one row of tokens per image.

Shapes: B images · T packed tokens (the longest row, rounded up) · K captions of an image.
Order and packing follow from seed and step alone, so a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.tokenizer import PAD, UNKNOWN

Int32 = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]

LENGTH_STEP = 8
"""Packed rows are padded to a multiple of this, so that few shapes are compiled."""


class Packed(NamedTuple):
    """Captions of B images, each row holding all captions of one image, one after the other."""

    tokens: Int32
    """[B, T] inputs: <start> and the words."""
    targets: Int32
    """[B, T] the token that comes next: the words and <end>; <pad> where nothing is asked."""
    positions: Int32
    """[B, T] place within the caption, from 0."""
    segments: Int32
    """[B, T] number of the caption within the row, from 0; -1 in padding."""
    weights: npt.NDArray[np.float32]
    """[B, T] 1 where the target counts, 0 in padding and where the target is <unk>."""


def pack_captions(captions: Sequence[Sequence[Sequence[int]]]) -> Packed:
    """Pack captions[b][k] (token lists from <start> to <end>) side by side."""
    lengths = [sum(len(caption) - 1 for caption in row) for row in captions]
    width = -(-max(lengths) // LENGTH_STEP) * LENGTH_STEP
    packed = _empty(len(captions), width)
    for number, row in enumerate(captions):
        first = 0
        for segment, caption in enumerate(row):
            here = slice(first, first + len(caption) - 1)
            packed.tokens[number, here] = caption[:-1]
            packed.targets[number, here] = caption[1:]
            packed.positions[number, here] = range(len(caption) - 1)
            packed.segments[number, here] = segment
            first = here.stop
    packed.weights[:] = (packed.targets != PAD) & (packed.targets != UNKNOWN)
    return packed


def _empty(rows: int, width: int) -> Packed:
    shape = (rows, width)
    return Packed(
        tokens=np.full(shape, PAD, np.int32),
        targets=np.full(shape, PAD, np.int32),
        positions=np.zeros(shape, np.int32),
        segments=np.full(shape, -1, np.int32),
        weights=np.zeros(shape, np.float32),
    )


def steps_per_epoch(images: int, *, batch_images: int) -> int:
    """Steps of one pass; images that don't fill a last batch wait for another epoch's order."""
    return max(1, images // batch_images)


def rows_of_step(step: int, *, images: int, batch_images: int, seed: int) -> Rows:
    """Row numbers [B] of the images of one step (from 0 over the whole phase)."""
    epoch, place = divmod(step, steps_per_epoch(images, batch_images=batch_images))
    rows = rows_of_epoch(epoch, images=images, batch_images=batch_images, seed=seed)
    return np.asarray(rows[place])


def rows_of_epoch(epoch: int, *, images: int, batch_images: int, seed: int) -> Rows:
    """Row numbers [steps, B] of the images of an epoch's steps; B is less if there are fewer."""
    steps = steps_per_epoch(images, batch_images=batch_images)
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return np.asarray(order[: steps * batch_images].reshape(steps, -1), np.int64)


def views_of_step(step: int, *, count: int, views: int, seed: int) -> Rows:
    """Which augmented view [B] of each image a step takes."""
    return np.random.default_rng((seed, step, 1)).integers(0, views, count)
