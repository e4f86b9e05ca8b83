"""CIDEr-D (Vedantam et al. 2015) over token numbers, as the reward of self-critical training.

The figures of pycocoevalcap's scorer, many times faster, because the
references' vectors are made once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

NGRAM = 4
SIGMA = 6.0

Ngram = tuple[int, ...]


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

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """Take references[image][k], token lists; document frequencies come from them."""
        counted = [[_count_ngrams(caption) for caption in captions] for captions in references]
        self._frequency = Counter(
            ngram for captions in counted for ngram in {n for c in captions for n in c}
        )
        self._log_images = math.log(max(len(references), 1))
        self._references = [[self._weigh(counts) for counts in captions] for captions in counted]

    def score(self, image: int, tokens: Sequence[int]) -> float:
        """CIDEr-D of one caption of an image, 0 to 10."""
        vector = self._weigh(_count_ngrams(tokens))
        references = self._references[image]
        return 10.0 * sum(_similarity(vector, ref) for ref in references) / len(references)

    def _weigh(self, counts: Counter[Ngram]) -> _Vector:
        weights: list[dict[Ngram, float]] = [{} for _ in range(NGRAM)]
        length = 0
        for ngram, count in counts.items():
            idf = self._log_images - math.log(max(1, self._frequency[ngram]))
            weights[len(ngram) - 1][ngram] = count * idf
            length += count if len(ngram) == 2 else 0
        norms = [math.sqrt(sum(w * w for w in part.values())) for part in weights]
        return _Vector(weights, norms, length)


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
