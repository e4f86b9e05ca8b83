"""Greedy and beam search written as plainly as can be: no batches, no caches, no early stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from models.decoding import END, PAD, START, UNKNOWN, Decoded, DecodingParameters

# Log-probabilities, one per word, of what follows a prefix that begins with <start>.
Following = Callable[[list[int]], Any]


def decode_plainly(
    following: Following, parameters: DecodingParameters, *, max_length: int
) -> Decoded:
    """Search one image's caption of at most ``max_length`` tokens, <end> included."""
    width = parameters.beam_width
    live: list[tuple[float, list[int]]] = [(0.0, [START])]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, max_length + 1):
        candidates = [
            (total + float(gain), [*prefix, word])
            for total, prefix in live
            for word, gain in enumerate(following(prefix))
            if _may_follow(word, prefix, parameters, last=length == max_length)
        ]
        candidates.sort(key=lambda candidate: -candidate[0])
        finished += [one for one in candidates[:width] if one[1][-1] == END]
        live = [one for one in candidates[: 2 * width] if one[1][-1] != END][:width]
        if width == 1 and finished:
            break
    total, tokens = max(finished, key=lambda one: _rank(one[0], one[1], parameters))
    return Decoded(tuple(tokens[1:-1]), math.exp(total / (len(tokens) - 1)))


def _rank(total: float, tokens: list[int], parameters: DecodingParameters) -> float:
    return float(total / (len(tokens) - 1) ** parameters.length_penalty)


def _may_follow(
    word: int, prefix: list[int], parameters: DecodingParameters, *, last: bool
) -> bool:
    if last or word == END:
        return word == END and (last or len(prefix) > 1)
    if word in (PAD, START, UNKNOWN, prefix[-1]):
        return False
    size = parameters.no_repeat_ngram
    words = [*prefix[1:], word]
    ngrams = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    return len(ngrams) == len(set(ngrams))
