"""The rules of decoding, shared by greedy and beam search, and what they ask of a decoder.

Shapes: R rows a backend holds at once (fixed), G images in a group, V vocabulary size, T tokens so
far. Tokens are int32, log-probabilities float32 (natural log).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

PAD, START, END, UNKNOWN = 0, 1, 2, 3
NEVER_EMITTED = [PAD, START, UNKNOWN]

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]
# What a decoder looks at, [2L, B, ...] for B images: an encoder's output, private to its runtime.
Memory = npt.NDArray[Any]


@dataclass(frozen=True)
class DecodingParameters:
    """What, besides the model, decides which caption an image gets.

    A beam hypothesis ranks by its summed log-probability over ``length ** length_penalty``.
    No sequence of ``no_repeat_ngram`` words occurs twice in a caption.
    """

    beam_width: int = 1
    length_penalty: float = 0.7
    no_repeat_ngram: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.beam_width <= 16:
            raise ValueError(f"beam_width must be 1 to 16, not {self.beam_width}")
        if not 0.0 <= self.length_penalty <= 2.0:
            raise ValueError(f"length_penalty must be 0 to 2, not {self.length_penalty}")
        if self.no_repeat_ngram < 1:
            raise ValueError(f"no_repeat_ngram must be 1 or more, not {self.no_repeat_ngram}")


class StepBackend(Protocol):
    """A decoder with its caches: one token per row in, the distribution of the next one out."""

    @property
    def rows(self) -> int:
        """R, the fixed number of rows of every step."""

    @property
    def max_length(self) -> int:
        """The most tokens a row can take, <start> included."""

    def begin(self, memory: Memory, *, copies: int) -> None:
        """Start a group: image g of memory [2L, G, ...] fills ``copies`` rows from g * copies."""

    def step(self, tokens: Tokens, *, position: int) -> Floats:
        """Log-probabilities [R, V] after tokens [R] at a position; the caller may overwrite it."""

    def reorder(self, sources: Indices) -> None:
        """Row r continues from what row sources[r] [R] has seen so far (same image)."""


class Decoded(NamedTuple):
    """Token ids without <start> and <end>; exp(mean log-probability), end included, 0 to 1."""

    tokens: tuple[int, ...]
    score: float


def close_sequence(tokens: Sequence[int] | Tokens, *, total: float) -> Decoded:
    """From all tokens, <start> and <end> included, and their summed log-probability."""
    score = float(np.exp(total / (len(tokens) - 1)))
    return Decoded(tuple(int(token) for token in tokens[1:-1]), min(score, 1.0))


def forbid(following: Floats, tokens: Tokens, *, last: bool, no_repeat_ngram: int) -> None:
    """Set to -inf, in place, whatever in following [R, V] may not come after tokens [R, T].

    A caption has at least one word, no word twice in a row and no n-gram twice at all, and ends
    when no position is left (``last``).
    """
    if last:
        ends = following[:, END].copy()
        following[:] = -np.inf
        following[:, END] = ends
        return
    following[:, NEVER_EMITTED] = -np.inf
    if tokens.shape[1] == 1:
        following[:, END] = -np.inf
    going_on = np.flatnonzero(tokens[:, -1] != END)
    following[going_on, tokens[going_on, -1]] = -np.inf
    rows, words = repeating_words(tokens, ngram=no_repeat_ngram)
    following[rows, words] = -np.inf


def repeating_words(tokens: Tokens, *, ngram: int) -> tuple[Indices, Tokens]:
    """(rows, words) where that word after that row of tokens [R, T] would repeat an n-gram."""
    length = tokens.shape[1]
    if length < ngram + 1:  # <start> is in no n-gram, so nothing can recur yet
        return np.empty(0, np.intp), np.empty(0, np.int32)
    seen = np.lib.stride_tricks.sliding_window_view(tokens[:, 1:], ngram, axis=1)
    context = tokens[:, length - ngram + 1 :]
    rows, places = np.nonzero((seen[:, :, :-1] == context[:, None, :]).all(axis=2))
    return rows, seen[rows, places, -1]
