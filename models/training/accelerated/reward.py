"""CIDEr-D (Vedantam et al. 2015) over token numbers, on the device that samples the captions.

`models.training.cider` says the same, one caption at a time. n-grams are told apart by 32-bit
hashes: with G of them in the references, one in 2^32 / G others is taken for one of those (for
Flickr8k, one in 11,000).

Shapes: I images · K references of an image, the last ones empty where it has fewer · R captions ·
T tokens of a caption · G distinct n-grams of all references.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from models.decoding import PAD
from models.training.cider import NGRAM, SIGMA

Array = Any
_EMPTY = np.uint32(0)


class References(NamedTuple):
    """What captions are compared with; made once."""

    hashes: Array
    """[I, K, 4, T] uint32, 0 where there is none."""
    weights: Array
    """[I, K, 4, T] tf-idf."""
    norms: Array
    """[I, K, 4]."""
    lengths: Array
    """[I, K] number of bigrams."""
    counts: Array
    """[I] number of references."""
    known: Array
    """[G] sorted hashes of all n-grams of the references."""
    rarities: Array
    """[G] idf of each, by natural logarithm."""
    unknown: Array
    """idf of any other."""


class _Ngrams(NamedTuple):
    hashes: Array  # [R, 4, T], 0 where there is none
    counts: Array  # [R, 4, T] how often it occurs, 0 at all places but its first
    lengths: Array  # [R]


def _find_ngrams(tokens: Array) -> _Ngrams:
    """n-grams of tokens int32 [R, T], <pad> after the last one."""
    is_word = tokens != PAD
    words = tokens.astype(jnp.uint32)
    length = tokens.shape[1]
    hashes, hashed, whole = [], jnp.zeros_like(words), jnp.ones_like(is_word)
    for n in range(NGRAM):
        shifted = jnp.pad(words[:, n:], ((0, 0), (0, n)))
        there = jnp.pad(is_word[:, n:], ((0, 0), (0, n)))
        hashed = _mix(hashed * np.uint32(0x01000193) + shifted + np.uint32(n + 1))
        whole = whole & there
        hashes.append(jnp.where(whole, jnp.maximum(hashed, 1), _EMPTY))
    stacked = jnp.stack(hashes, axis=1)
    same = (stacked[..., :, None] == stacked[..., None, :]) & (stacked != 0)[..., None]
    earlier = jnp.tril(jnp.ones((length, length), bool), -1)
    is_first = ~(same & earlier).any(-1)
    counts = jnp.where(is_first, same.sum(-1), 0)
    return _Ngrams(stacked, counts, (stacked[:, 1] != 0).sum(-1))


def _mix(values: Array) -> Array:
    values = (values ^ (values >> 16)) * np.uint32(0x7FEB352D)
    values = (values ^ (values >> 15)) * np.uint32(0x846CA68B)
    return values ^ (values >> 16)


def make_references(captions: npt.NDArray[np.int32]) -> References:
    """References from captions int32 [I, K, T], <end> included, <pad> after it.

    An n-gram's rarity follows from how many images have it in a caption, as in the scorers.
    """
    images, most, length = captions.shape
    found = jax.jit(_find_ngrams)(captions.reshape(-1, length))
    hashes = np.asarray(found.hashes).reshape(images, -1)
    per_image = np.concatenate([np.unique(row) for row in hashes])
    known, frequency = np.unique(per_image[per_image != 0], return_counts=True)
    log_images = np.log(max(images, 1))
    rarities = (log_images - np.log(frequency)).astype(np.float32)
    weights = _weigh(found, jnp.asarray(known), jnp.asarray(rarities), log_images)
    shape = (images, most)
    return References(
        hashes=jnp.where(found.counts > 0, found.hashes, 0).reshape(*shape, NGRAM, -1),
        weights=weights.reshape(*shape, NGRAM, -1),
        norms=jnp.sqrt((weights**2).sum(-1)).reshape(*shape, NGRAM),
        lengths=found.lengths.reshape(shape),
        counts=jnp.asarray((captions[..., 0] != PAD).sum(1)),
        known=jnp.asarray(known),
        rarities=jnp.asarray(rarities),
        unknown=jnp.asarray(log_images, jnp.float32),
    )


def _weigh(ngrams: _Ngrams, known: Array, rarities: Array, unknown: Array) -> Array:
    places = jnp.minimum(jnp.searchsorted(known, ngrams.hashes), len(known) - 1)
    rarity = jnp.where(known[places] == ngrams.hashes, rarities[places], unknown)
    return ngrams.counts * rarity


def score(tokens: Array, images: Array, references: References) -> Array:
    """CIDEr-D [R], 0 to 10, of captions int32 [R, T] of the images [R].

    <end> counts as a word.
    """
    ngrams = _find_ngrams(tokens)
    weights = _weigh(ngrams, references.known, references.rarities, references.unknown)
    norms = jnp.sqrt((weights**2).sum(-1))
    others, other_weights = references.hashes[images], references.weights[images]
    same = (ngrams.hashes[:, None, :, :, None] == others[:, :, :, None, :]) & (
        ngrams.counts[:, None, :, :, None] > 0
    )
    clipped = jnp.minimum(weights[:, None, :, :, None], other_weights[:, :, :, None, :])
    shared = jnp.where(same, clipped * other_weights[:, :, :, None, :], 0.0).sum((-1, -2))
    products = norms[:, None] * references.norms[images]
    cosines = jnp.where(products > 0, shared / jnp.maximum(products, 1e-9), 0.0).mean(-1)
    differences = ngrams.lengths[:, None] - references.lengths[images]
    similarities = cosines * jnp.exp(-(differences**2) / (2 * SIGMA**2))
    return 10.0 * similarities.sum(-1) / references.counts[images]
