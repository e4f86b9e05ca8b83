"""Turns features into token sequences: greedy or beam search over a cached step function.

Shapes: B images asked for, G images in a group, W beam width, R rows of the backend (G * W or
more), K candidates per row, V vocabulary size, T tokens so far.

The driver sees log-probabilities only, so Keras and OpenVINO decode by the same code. A backend
always computes all R rows and every row is treated on its own, which is why the caption of an
image doesn't depend on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.decoding import (
    END,
    PAD,
    START,
    Decoded,
    DecodingParameters,
    Floats,
    Indices,
    Memory,
    StepBackend,
    Tokens,
    close_sequence,
    forbid,
)
from models.lanes import in_lanes

Sums = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


class SteppedEngine(Protocol):
    """An inference library that runs one step at a time; batch shapes are fixed inside."""

    def encode(self, pixels: Pixels) -> Memory:
        """What the decoder looks at, [2L, B, ...], of pixels uint8 [B, S, S, 3], RGB."""

    @property
    def decoders(self) -> Sequence[StepBackend]:
        """Step functions with caches of their own, each for a thread; one or more, all alike."""

    def halve(self) -> bool:
        """Use half the batch from now on; False where it can't be smaller."""


class HostSearch:
    """`models.runtime.Engine` over an engine that is led token by token from here."""

    def __init__(self, engine: SteppedEngine) -> None:
        self._engine = engine
        self.encode = engine.encode
        self.halve = engine.halve

    def generate(self, memory: Memory, parameters: DecodingParameters) -> list[Decoded]:
        """The best sequence for each image of memory [2L, B, ...], in order."""
        return generate(self._engine.decoders, memory, parameters)


def generate(
    backends: Sequence[StepBackend], memory: Memory, parameters: DecodingParameters
) -> list[Decoded]:
    """The best sequence for each image of memory [2L, B, ...], in order; B may be any number."""
    width = parameters.beam_width
    rows = backends[0].rows
    group = rows // width
    if group < 1:
        raise ValueError(f"{rows} rows can't hold a beam of {width}")

    def decode(backend: StepBackend, chosen: Memory) -> list[Decoded]:
        backend.begin(chosen, copies=width)
        search = _decode_greedy if width == 1 else _decode_beam
        return search(backend, chosen.shape[1], parameters)

    groups = (memory[:, first : first + group] for first in range(0, memory.shape[1], group))
    return [one for found in in_lanes(decode, backends, groups) for one in found]


def _decode_greedy(
    backend: StepBackend, images: int, parameters: DecodingParameters
) -> list[Decoded]:
    tokens = _start_tokens(backend)
    rows = np.arange(backend.rows)
    totals = np.zeros(backend.rows)
    lengths = np.ones(backend.rows, np.int64)
    live = rows < images
    for position in range(backend.max_length):
        following = _following(backend, tokens, position, parameters)
        best = following.argmax(axis=1)
        tokens[:, position + 1] = best
        totals[live] += following[rows, best][live]
        lengths += live
        live &= best != END
        if not live.any():
            break
    return [close_sequence(tokens[row, : lengths[row]], total=totals[row]) for row in range(images)]


def _start_tokens(backend: StepBackend) -> Tokens:
    tokens = np.full((backend.rows, backend.max_length + 1), PAD, np.int32)
    tokens[:, 0] = START
    return tokens


def _following(
    backend: StepBackend, tokens: Tokens, position: int, parameters: DecodingParameters
) -> Floats:
    """Log-probabilities [R, V] of what comes after a position, -inf where it is not allowed."""
    following = backend.step(np.ascontiguousarray(tokens[:, position]), position=position)
    forbid(
        following,
        tokens[:, : position + 1],
        last=position + 1 == backend.max_length,
        no_repeat_ngram=parameters.no_repeat_ngram,
    )
    return following


def _decode_beam(
    backend: StepBackend, images: int, parameters: DecodingParameters
) -> list[Decoded]:
    width = parameters.beam_width
    tokens = _start_tokens(backend)
    totals = np.full((images, width), -np.inf)
    totals[:, 0] = 0.0  # the rows of an image start alike, so only one of them may branch
    pools = [_Finished(parameters, backend.max_length) for _ in range(images)]
    for position in range(backend.max_length):
        following = _following(backend, tokens, position, parameters)[: images * width]
        sources, words, sums = _best_candidates(following, totals)
        ended = words == END
        for image, rank in zip(*np.nonzero(ended[:, :width]), strict=True):
            said = tokens[sources[image, rank], : position + 1]
            pools[image].add(np.append(said, END), total=sums[image, rank])
        kept = np.argsort(ended, axis=1, kind="stable")[:, :width]
        totals = np.where(
            np.take_along_axis(ended, kept, 1), -np.inf, np.take_along_axis(sums, kept, 1)
        )
        if all(pool.is_settled(totals[image, 0]) for image, pool in enumerate(pools)):
            break
        _continue_from(backend, tokens, position, _pick(sources, kept), _pick(words, kept))
    return [pool.best() for pool in pools]


def _pick(values: Indices, places: Indices) -> Indices:
    return np.take_along_axis(values, places, 1).ravel()


def _continue_from(
    backend: StepBackend, tokens: Tokens, position: int, sources: Indices, words: Indices
) -> None:
    """Row r becomes row sources[r] followed by words[r]; rows past len(sources) hold no image."""
    order = np.arange(backend.rows)
    order[: len(sources)] = sources
    tokens[:, : position + 1] = tokens[order, : position + 1]
    tokens[: len(words), position + 1] = words
    backend.reorder(order)


def _best_candidates(following: Floats, totals: Sums) -> tuple[Indices, Indices, Sums]:
    """The 2W best continuations of each image, best first: source rows, words, sums, [G, 2W].

    A row has one way to end, so that W of the 2W can always go on.
    """
    images, width = totals.shape
    count = 2 * width
    words = np.empty((images * width, count), np.intp)
    gains = np.empty((images * width, count))
    rows = np.arange(images * width)
    for rank in range(count):  # a few argmax passes beat partitioning all V
        words[:, rank] = following.argmax(axis=1)
        gains[:, rank] = following[rows, words[:, rank]]
        following[rows, words[:, rank]] = -np.inf
    sums = (totals.reshape(-1, 1) + gains).reshape(images, width * count)
    order = np.argsort(-sums, axis=1, kind="stable")[:, :count]
    sources = order // count + np.arange(images)[:, None] * width
    best = np.take_along_axis(words.reshape(images, -1), order, 1)
    return sources, best, np.take_along_axis(sums, order, 1)


class _Finished:
    """The finished captions of one image, at most W, the best first."""

    def __init__(self, parameters: DecodingParameters, max_length: int) -> None:
        self._width, self._penalty = parameters.beam_width, parameters.length_penalty
        self._longest = max_length**self._penalty
        self._ranked: list[tuple[float, Decoded]] = []

    def add(self, tokens: Tokens, *, total: float) -> None:
        """Keep tokens [T], <start> and <end> included, if it is among the W best."""
        if not np.isfinite(total):
            return
        rank = float(total) / (len(tokens) - 1) ** self._penalty
        self._ranked.append((rank, close_sequence(tokens, total=float(total))))
        self._ranked.sort(key=lambda ranked: -ranked[0])  # stable: of equals, the first stays first
        del self._ranked[self._width :]

    def is_settled(self, best_total: float) -> bool:
        """Whether nothing that goes on, summing to best_total at most by now, can get in."""
        attainable = best_total / self._longest
        if best_total == -np.inf:
            return True
        return len(self._ranked) == self._width and self._ranked[-1][0] >= attainable

    def best(self) -> Decoded:
        return self._ranked[0][1]
