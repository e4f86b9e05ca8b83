"""The searches of `models.generation` as one function that a device runs without the host.

A GPU takes a step in less time than one answer of the host: here every token of every row is chosen
on the device, and only finished sequences leave it. The decisions are those of `models.generation`
and `models.decoding.forbid`; sums are float32 here, so candidates nearer than that may change
places. Everything is ``keras.ops`` of fixed shapes, so that TensorFlow and JAX both compile it.

Shapes: B images (fixed), W beam width, R = B * W rows (those of an image side by side), L layers,
V vocabulary, P places of a sequence (<start> is the first, and each step fills one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from models.decoding import (
    END,
    NEVER_EMITTED,
    PAD,
    START,
    Decoded,
    DecodingParameters,
    Floats,
    Tokens,
)

Tensor = Any
Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Tokens int32 [R], their position int32 [] and a cache, whose rows are its third axis, to the
log-probabilities float32 [R, V] of what follows and the new cache."""
Pool = tuple[Tensor, Tensor, Tensor]
"""The W best finished of each image, best first: tokens int32 [R, P]; their summed log-probability
and its share of the length's penalty, both float32 [B, W] and -inf where nothing has finished."""
LOWEST = float("-inf")


@dataclass(frozen=True)
class DeviceSearch:
    """Greedy or beam search over a step function, to be traced by a compiler.

    Attributes:
        step: the decoder.
        max_length: P - 1, the number of steps at most.
        parameters: see `models.decoding.DecodingParameters`.
    """

    step: Step
    max_length: int
    parameters: DecodingParameters

    def __call__(self, cache: Tensor, *, images: Tensor) -> tuple[Tensor, Tensor]:
        """The best sequence of each image: tokens int32 [B, P], summed log-probability float32 [B].

        A sequence ends at its first <end>; what lies behind means nothing, as do the rows of all
        but the first ``images`` int32 [] of the B. ``cache`` [L, 2, R, ...] is the one to begin
        with.
        """
        batch = cache.shape[2] // self.parameters.beam_width
        counts = ops.arange(batch, dtype="int32") < images
        decode = self._decode_greedy if self.parameters.beam_width == 1 else self._decode_beam
        return decode(cache, counts)

    def _decode_greedy(self, cache: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        rows = live.shape[0]
        tokens, totals = _start_tokens(rows, self.max_length), ops.zeros(rows, "float32")
        start = (ops.zeros((), "int32"), live, tokens, totals, cache)
        _, _, tokens, totals, _ = ops.while_loop(self._goes_on, self._extend_rows, start)
        return tokens, totals

    def _decode_beam(self, cache: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        shape = live.shape[0], self.parameters.beam_width
        tokens = _start_tokens(cache.shape[2], self.max_length)
        # The rows of an image start alike, so only one of them may branch; without an image, none.
        branches = ops.logical_and(live[:, None], ops.arange(shape[1])[None] == 0)
        totals = ops.where(branches, 0.0, ops.full(shape, LOWEST, "float32"))
        pool = (tokens, *[ops.full(shape, LOWEST, "float32")] * 2)
        start = (ops.zeros((), "int32"), live, tokens, totals, pool, cache)
        found, summed, _ = ops.while_loop(self._goes_on, self._extend_beams, start)[4]
        return ops.reshape(found, (*shape, -1))[:, 0], summed[:, 0]

    def _goes_on(self, position: Tensor, live: Tensor, *_others: Any) -> Tensor:
        return ops.logical_and(position < self.max_length, ops.any(live))

    def _extend_rows(
        self, position: Tensor, live: Tensor, tokens: Tensor, totals: Tensor, cache: Tensor
    ) -> tuple[Tensor, ...]:
        following, cache = self._follow(tokens, position, cache)
        best = ops.cast(ops.argmax(following, axis=1), "int32")
        totals = totals + ops.where(live, ops.max(following, axis=1), 0.0)
        tokens = _write(tokens, position + 1, best)
        return position + 1, ops.logical_and(live, best != END), tokens, totals, cache

    def _extend_beams(
        self, position: Tensor, _live: Tensor, tokens: Tensor, totals: Tensor, pool: Pool,
        cache: Tensor,
    ) -> tuple[Any, ...]:  # fmt: skip
        width = self.parameters.beam_width
        following, cache = self._follow(tokens, position, cache)
        sources, words, sums = _best_candidates(following, totals)
        ended = words == END
        said = ops.take(tokens, ops.reshape(sources[:, :width], (-1,)), axis=0)
        finished = ops.where(ended[:, :width], sums[:, :width], LOWEST)
        pool = self._add(pool, _write(said, position + 1, END), finished, length=position + 1)
        kept = _first_unended(ended, width)
        totals = ops.where(_pick(ended, kept), LOWEST, _pick(sums, kept))
        order = ops.reshape(_pick(sources, kept), (-1,))
        tokens = _write(ops.take(tokens, order, axis=0), position + 1, _pick(words, kept))
        live = self._may_improve(pool, totals[:, 0])
        return position + 1, live, tokens, totals, pool, ops.take(cache, order, axis=2)

    def _follow(self, tokens: Tensor, position: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [R, V] of what comes after a position, -inf where not allowed."""
        following, cache = self.step(ops.take(tokens, position, axis=1), position, cache)
        last = position + 1 == self.max_length
        ngram = self.parameters.no_repeat_ngram
        return forbid(following, tokens, position, last=last, no_repeat_ngram=ngram), cache

    def _add(self, pool: Pool, said: Tensor, totals: Tensor, *, length: Tensor) -> Pool:
        """A pool with what has just ended, said [R, P] and its totals [B, W], behind its equals."""
        batch, width = totals.shape
        penalty = ops.power(ops.cast(length, "float32"), self.parameters.length_penalty)
        ranks = ops.concatenate([pool[2], totals / penalty], axis=1)
        ranks, chosen = ops.top_k(ranks, width)
        chosen = ops.cast(chosen, "int32")
        sequences = [ops.reshape(part, (batch, width, -1)) for part in (pool[0], said)]
        both = ops.reshape(ops.concatenate(sequences, axis=1), (2 * batch * width, -1))
        rows = chosen + ops.arange(batch, dtype="int32")[:, None] * (2 * width)
        tokens = ops.take(both, ops.reshape(rows, (-1,)), axis=0)
        return tokens, _pick(ops.concatenate([pool[1], totals], axis=1), chosen), ranks

    def _may_improve(self, pool: Pool, best_totals: Tensor) -> Tensor:
        """Whether what goes on, summing to [B] at most by now, can get into a pool: bool [B]."""
        worst = pool[2][:, -1]
        attainable = best_totals / float(self.max_length**self.parameters.length_penalty)
        room = ops.logical_or(worst == LOWEST, worst < attainable)
        return ops.logical_and(best_totals > LOWEST, room)


def read_sequences(tokens: Tokens, totals: Floats) -> list[Decoded]:
    """What `search` found, on the host: tokens int32 [B, P] and totals float32 [B]."""
    lengths: npt.NDArray[np.intp] = (tokens == END).argmax(axis=1)
    scores = np.minimum(np.exp(totals.astype(np.float64) / lengths), 1.0)
    rows = zip(tokens.tolist(), lengths.tolist(), scores.tolist(), strict=True)
    return [Decoded(tuple(row[1:length]), score) for row, length, score in rows]


def _start_tokens(rows: int, max_length: int) -> Tensor:
    tokens = np.full((rows, max_length + 1), PAD, np.int32)
    tokens[:, 0] = START
    return ops.convert_to_tensor(tokens)


def _write(tokens: Tensor, place: Tensor, words: Tensor | int) -> Tensor:
    """Tokens [R, P] with words [R] or [B, W] at a place; a masked write keeps shapes static."""
    here = ops.arange(tokens.shape[1], dtype="int32") == place
    column = words if isinstance(words, int) else ops.reshape(words, (-1, 1))
    return ops.where(here[None], column, tokens)


def forbid(
    following: Tensor, tokens: Tensor, position: Tensor, *, last: Tensor, no_repeat_ngram: int
) -> Tensor:
    """`models.decoding.forbid` of following float32 [R, V] after tokens int32 [R, P].

    ``position`` int32 [] is the place of the latest token, and ``last`` bool [] whether only <end>
    may come. Returns float32 [R, V].
    """
    words = ops.arange(following.shape[1], dtype="int32")[None]
    latest = ops.take(tokens, position, axis=1)[:, None]
    barred = [
        ops.where(position == 0, END, PAD),
        ops.where(latest == END, PAD, latest),
        *_repeating_words(tokens, position, ngram=no_repeat_ngram),
    ]
    # One comparison per barred word fuses into the search for the best; a scatter wouldn't.
    banned = reduce(ops.logical_or, [words == word for word in [*NEVER_EMITTED, *barred]])
    banned = ops.where(last, words != END, banned)
    return ops.where(banned, LOWEST, following)


def _repeating_words(tokens: Tensor, position: Tensor, *, ngram: int) -> list[Tensor]:
    """Words int32 [R, 1] that would repeat an n-gram of tokens [R, P]; PAD where none would."""
    starts = max(0, tokens.shape[1] - ngram - 1)  # <start> is in no n-gram, and <end> repeats none
    ends = ops.arange(starts, dtype="int32") + ngram
    recurs = (ends <= position)[None]
    for back in range(1, ngram):
        recent = ops.take(tokens, ops.maximum(position + 1 - back, 0), axis=1)[:, None]
        recurs = ops.logical_and(recurs, tokens[:, ngram - back : ngram - back + starts] == recent)
    words = ops.where(recurs, tokens[:, ngram : ngram + starts], PAD)
    return [words[:, start : start + 1] for start in range(starts)]


def _best_candidates(following: Tensor, totals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The 2W best continuations of each image, best first: rows of R, words, sums, [B, 2W]."""
    batch, width = totals.shape
    count = min(2 * width, following.shape[1])
    gains, words = ops.top_k(following, count)
    sums = ops.reshape(totals, (-1, 1)) + gains
    sums, order = ops.top_k(ops.reshape(sums, (batch, width * count)), 2 * width)
    order = ops.cast(order, "int32")
    sources = order // count + ops.arange(batch, dtype="int32")[:, None] * width
    words = ops.reshape(ops.cast(words, "int32"), (batch, width * count))
    return sources, _pick(words, order), sums


def _pick(values: Tensor, places: Tensor) -> Tensor:
    return ops.take_along_axis(values, places, axis=1)


def _first_unended(ended: Tensor, width: int) -> Tensor:
    """Places int32 [B, W] of the best candidates that go on, of ended bool [B, 2W]."""
    places = ops.arange(2 * width, dtype="int32")[None]
    order = ops.argsort(ops.where(ended, places + 2 * width, places), axis=1)
    return ops.cast(order[:, :width], "int32")
