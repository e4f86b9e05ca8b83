from __future__ import annotations

import zlib
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from models.decoding import (
    END,
    Decoded,
    DecodingParameters,
    Floats,
    Indices,
    Memory,
    Tokens,
    close_sequence,
    repeating_words,
)
from models.generation import generate
from tests.reference_decoding import decode_plainly

WORDS, MAX_LENGTH = 9, 8


def speak(image: float, prefix: list[int]) -> Floats:
    """Log-probabilities [WORDS] that depend on the image and on every token before."""
    seed = zlib.crc32(repr((image, prefix)).encode())
    scores = np.random.default_rng(seed).normal(0.0, 2.0, WORDS)
    scores[END] += len(prefix) - 4.0
    return np.asarray(scores - np.log(np.exp(scores).sum()), np.float32)


class TalkingBackend:
    """Keeps each row's prefix where a decoder keeps its cache, and counts its steps."""

    def __init__(self, *, rows: int) -> None:
        self.rows = rows
        self.max_length = MAX_LENGTH
        self.steps = 0
        self._images = np.zeros(rows)
        self._prefixes: list[list[int]] = []

    def begin(self, memory: Memory, *, copies: int) -> None:
        self._images[: memory.shape[1] * copies] = np.repeat(memory[0], copies)
        self._prefixes = [[] for _ in range(self.rows)]

    def step(self, tokens: Tokens, *, position: int) -> Floats:
        self.steps += 1
        for row, token in enumerate(tokens):
            self._prefixes[row] = [*self._prefixes[row][:position], int(token)]
        rows = zip(self._images, self._prefixes, strict=True)
        return np.stack([speak(image, prefix) for image, prefix in rows])

    def reorder(self, sources: Indices) -> None:
        self._prefixes = [self._prefixes[source] for source in sources]


def some_images(count: int) -> Memory:
    return np.arange(count, dtype=np.float64)[None]


def decode(count: int, parameters: DecodingParameters, *, rows: int = 12) -> list[Decoded]:
    return generate([TalkingBackend(rows=rows)], some_images(count), parameters)


@pytest.mark.parametrize("ngram", [1, 2, 3])
@pytest.mark.parametrize("beam_width", [1, 2, 3, 5])
def test_captions_are_those_of_the_plain_reference(beam_width: int, ngram: int) -> None:
    parameters = DecodingParameters(beam_width, length_penalty=0.7, no_repeat_ngram=ngram)
    expected = [
        decode_plainly(partial(speak, at), parameters, max_length=MAX_LENGTH)
        for at in np.arange(30.0)
    ]
    found = decode(30, parameters)
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected])


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_length_penalty_ranks_as_in_the_plain_reference(length_penalty: float) -> None:
    parameters = DecodingParameters(3, length_penalty=length_penalty)
    expected = [
        decode_plainly(partial(speak, at), parameters, max_length=MAX_LENGTH)
        for at in np.arange(20.0)
    ]
    assert [one.tokens for one in decode(20, parameters)] == [one.tokens for one in expected]


@pytest.mark.parametrize("beam_width", [1, 3])
def test_a_caption_does_not_depend_on_its_batch(beam_width: int) -> None:
    parameters = DecodingParameters(beam_width)
    backend = TalkingBackend(rows=12)
    alone = [generate([backend], some_images(20)[:, [at]], parameters)[0] for at in range(20)]
    assert decode(20, parameters) == alone
    assert decode(20, parameters, rows=3) == alone


@pytest.mark.parametrize("beam_width", [1, 3])
def test_several_backends_share_the_images(beam_width: int) -> None:
    parameters = DecodingParameters(beam_width)
    backends = [TalkingBackend(rows=12) for _ in range(3)]
    assert generate(backends, some_images(100), parameters) == decode(100, parameters)


@pytest.mark.parametrize("beam_width", [1, 4])
def test_special_tokens_and_empty_captions_never_come_out(beam_width: int) -> None:
    found = decode(60, DecodingParameters(beam_width))
    assert all(found[at].tokens for at in range(60))
    assert min(token for one in found for token in one.tokens) > 3


def test_no_word_follows_itself() -> None:
    for one in decode(60, DecodingParameters()):
        assert all(first != second for first, second in pairwise(one.tokens))


def test_every_caption_fits_the_decoder() -> None:
    lengths = {len(one.tokens) for one in decode(200, DecodingParameters())}
    assert max(lengths) == MAX_LENGTH - 1
    assert len(lengths) > 3


def test_scores_are_probabilities() -> None:
    assert all(0.0 < one.score <= 1.0 for one in decode(60, DecodingParameters(3)))


def test_generation_stops_when_every_caption_has_ended() -> None:
    backend = TalkingBackend(rows=12)
    found = generate([backend], some_images(4), DecodingParameters())
    assert backend.steps == max(len(one.tokens) for one in found) + 1


def test_no_images_need_no_step() -> None:
    backend = TalkingBackend(rows=12)
    assert generate([backend], some_images(0), DecodingParameters()) == []
    assert backend.steps == 0


def test_a_beam_wider_than_the_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows can't hold a beam of 3"):
        decode(1, DecodingParameters(3), rows=2)


def test_words_that_would_repeat_an_ngram_are_found() -> None:
    tokens = np.array([[1, 5, 6, 7, 5, 6], [1, 5, 6, 7, 8, 9]], np.int32)
    rows, words = repeating_words(tokens, ngram=3)
    assert (rows.tolist(), words.tolist()) == ([0], [7])


def test_the_score_is_the_mean_over_all_tokens_with_the_end() -> None:
    decoded = close_sequence([1, 5, 6, END], total=3 * np.log(0.5))
    assert decoded.tokens == (5, 6)
    assert decoded.score == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong", [{"beam_width": 0}, {"length_penalty": -1.0}, {"no_repeat_ngram": 0}]
)
def test_senseless_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DecodingParameters(**wrong)  # type: ignore[arg-type]
