"""CIDEr-D (Vedantam et al. 2015) over token numbers, as the reward of self-critical training.

The figures of pycocoevalcap's scorer, but an image's references are weighed when it is scored, and
of all n-grams only those are kept that several images share: a million captions fit in memory.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

NGRAM = 4
SIGMA = 6.0

Ngram = tuple[int, ...]
Captions = Sequence[Sequence[int]]


class _Vector(NamedTuple):
    """tf-idf weights of one caption by n-gram length, their norms, and its number of bigrams."""

    weights: list[dict[Ngram, float]]
    norms: list[float]
    length: int


def _count_ngrams(tokens: Sequence[int]) -> Counter[Ngram]:
    return Counter(
        tuple(tokens[first : first + n])
        for n in range(1, NGRAM + 1)
        for first in range(len(tokens) - n + 1)
    )


class CiderReward:
    """Scores captions of known images against their references."""

    def __init__(self, references: Callable[[int], Captions], *, images: int) -> None:
        """Count how many of the images share an n-gram.

        ``references`` returns the token lists of an image's captions, and is asked for all images
        now and for one at each `score`.
        """
        self._references = references
        self._log_images = math.log(max(images, 1))
        self._frequencies = _count_shared(map(references, range(images)))

    def score(self, image: int, captions: Captions) -> list[float]:
        """CIDEr-D of captions of an image, 0 to 10."""
        references = [self._weigh(caption) for caption in self._references(image)]
        vectors = [self._weigh(caption) for caption in captions]
        return [
            10.0 * sum(_similarity(vector, ref) for ref in references) / len(references)
            for vector in vectors
        ]

    def _weigh(self, caption: Sequence[int]) -> _Vector:
        weights: list[dict[Ngram, float]] = [{} for _ in range(NGRAM)]
        length = 0
        for ngram, count in _count_ngrams(caption).items():
            idf = self._log_images - math.log(self._frequencies.get(hash(ngram), 1))
            weights[len(ngram) - 1][ngram] = count * idf
            length += count if len(ngram) == 2 else 0
        norms = [math.sqrt(sum(w * w for w in part.values())) for part in weights]
        return _Vector(weights, norms, length)


def _count_shared(references: Iterable[Captions]) -> dict[int, int]:
    """In how many images' captions an n-gram is, by its 64-bit hash, where in more than one."""
    hashes = array("q")
    for captions in references:
        hashes.extend({hash(ngram) for caption in captions for ngram in _count_ngrams(caption)})
    found, counts = np.unique(np.asarray(hashes, np.int64), return_counts=True)
    is_shared = counts > 1
    return dict(zip(found[is_shared].tolist(), counts[is_shared].tolist(), strict=True))


def _similarity(caption: _Vector, reference: _Vector) -> float:
    """Mean over n of the clipped cosine, less for a different length."""
    total = 0.0
    for weights, others, norm, other_norm in zip(
        caption.weights, reference.weights, caption.norms, reference.norms, strict=True
    ):
        if norm and other_norm:
            shared = weights.keys() & others.keys()
            product = sum(min(weights[n], others[n]) * others[n] for n in shared)
            total += product / (norm * other_norm)
    difference = caption.length - reference.length
    return total / NGRAM * math.exp(-(difference**2) / (2 * SIGMA**2))
