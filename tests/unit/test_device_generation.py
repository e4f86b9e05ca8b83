"""The search that a device runs by itself, held against the host's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from models.decoding import (
    END,
    Decoded,
    DecodingParameters,
    Floats,
    Indices,
    Memory,
    Tokens,
)
from models.device_engine import DeviceEngine, load_device_engine
from models.device_generation import DeviceSearch, read_sequences
from models.generation import generate
from models.package import ModelPackage
from models.runtime import CaptionRuntime, build_runtime, load_runtime
from tests.fresh_python import run_script
from tests.tiny_model import make_tiny_captioner, random_pixels

IMAGES = random_pixels(70, seed=3)
WORDS, MAX_LENGTH, STATES = 9, 8, 4001


def make_table(*, end: float) -> Floats:
    """Log-probabilities [STATES, WORDS]; ``end`` makes <end> likelier."""
    scores = np.random.default_rng(5).normal(0.0, 2.0, (STATES, WORDS))
    scores[:, END] += end
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), np.float32)


class TableBackend:
    """Steps through a table, by a number that every token before has changed."""

    def __init__(self, table: Floats, *, rows: int) -> None:
        self.rows = rows
        self.max_length = MAX_LENGTH
        self._table = table
        self._states = np.zeros(rows, np.int32)

    def begin(self, memory: Memory, *, copies: int) -> None:
        self._states = np.zeros(self.rows, np.int32)
        self._states[: memory.shape[1] * copies] = np.repeat(memory[0], copies)

    def step(self, tokens: Tokens, *, position: int) -> Floats:  # noqa: ARG002
        self._states = np.asarray((self._states * 31 + tokens + 7) % STATES, np.int32)
        return self._table[self._states]

    def reorder(self, sources: Indices) -> None:
        self._states = self._states[sources]


def search_table(
    table: Floats, states: Tokens, parameters: DecodingParameters, *, images: int, jit: bool
) -> list[Decoded]:
    """As `TableBackend` steps, on the device; the states are its cache."""

    def step(tokens: Any, _position: Any, cache: Any) -> Any:
        state = (cache[0, 0] * 31 + tokens + 7) % STATES
        return ops.take(ops.convert_to_tensor(table), state, axis=0), state[None, None]

    def run(states: Any, images: Any) -> Any:
        cache = ops.repeat(states, parameters.beam_width)[None, None]
        return DeviceSearch(step, MAX_LENGTH, parameters)(cache, images=images)

    compiled = tf.function(run, jit_compile=jit)
    tokens, totals = compiled(states, np.asarray(images, np.int32))
    return read_sequences(np.asarray(tokens)[:images], np.asarray(totals)[:images])


def assert_alike(found: list[Decoded], expected: list[Decoded]) -> None:
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-4)


@pytest.mark.parametrize("end", [-9.0, 1.0])
@pytest.mark.parametrize("ngram", [1, 3])
@pytest.mark.parametrize("beam_width", [1, 2, 5, 16])
def test_sequences_are_those_of_the_host(beam_width: int, ngram: int, end: float) -> None:
    parameters = DecodingParameters(beam_width, length_penalty=0.7, no_repeat_ngram=ngram)
    table, states = make_table(end=end), np.arange(40, dtype=np.int32)
    backend = TableBackend(table, rows=40 * beam_width)
    expected = generate([backend], states[None], parameters)
    assert_alike(search_table(table, states, parameters, images=40, jit=False), expected)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_the_rule_of_repetition_and_the_limit_bite(beam_width: int) -> None:
    table, states = make_table(end=-9.0), np.arange(40, dtype=np.int32)
    rules = (DecodingParameters(beam_width, no_repeat_ngram=ngram) for ngram in (2, 8))
    strict, free = (search_table(table, states, one, images=40, jit=False) for one in rules)
    assert [one.tokens for one in strict] != [one.tokens for one in free]
    assert {len(one.tokens) for one in strict} == {MAX_LENGTH - 1}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_length_penalty_ranks_as_on_the_host(length_penalty: float) -> None:
    parameters = DecodingParameters(3, length_penalty=length_penalty)
    table, states = make_table(end=1.0), np.arange(100, dtype=np.int32)
    expected = generate([TableBackend(table, rows=300)], states[None], parameters)
    assert_alike(search_table(table, states, parameters, images=100, jit=False), expected)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_xla_compiles_it_for_tensorflow(beam_width: int) -> None:
    parameters = DecodingParameters(beam_width)
    table, states = make_table(end=1.0), np.arange(16, dtype=np.int32)
    expected = generate([TableBackend(table, rows=16 * beam_width)], states[None], parameters)
    assert_alike(search_table(table, states, parameters, images=16, jit=True), expected)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_rows_without_an_image_cost_no_step(beam_width: int) -> None:
    steps: list[int] = []

    def step(_tokens: Any, position: Any, cache: Any) -> Any:
        tf.py_function(lambda at: steps.append(int(at)), [position], [])
        following = np.full((4 * beam_width, WORDS), -9.0, np.float32)
        following[:beam_width, END] = -0.01
        following[beam_width:, END] = -99.0  # these would go on to the last place
        return ops.convert_to_tensor(following), cache

    def search(images: Any) -> Any:
        cache = ops.zeros((1, 1, 4 * beam_width))
        return DeviceSearch(step, MAX_LENGTH, DecodingParameters(beam_width))(cache, images=images)

    run = tf.function(search)
    run(np.asarray(1, np.int32))
    assert max(steps) < MAX_LENGTH - 1
    run(np.asarray(2, np.int32))
    assert max(steps) == MAX_LENGTH - 1


def device_runtime(package: ModelPackage, *, beam_width: int, batch: int) -> CaptionRuntime:
    engine = load_device_engine(package, precision="float32", device="cpu", batch=batch)
    return build_runtime(engine, package, beam_width=beam_width)


@pytest.mark.parametrize("beam_width", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_captions_are_those_of_the_host(
    tiny_package: ModelPackage, beam_width: int, size: int
) -> None:
    host = load_runtime(
        tiny_package, runtime="keras", precision="float32", beam_width=beam_width
    ).caption(IMAGES)
    device = device_runtime(tiny_package, beam_width=beam_width, batch=16)
    parts = [IMAGES[first : first + size] for first in range(0, len(IMAGES), size)]
    found = [caption for part in parts for caption in device.caption(part)]
    assert [one.text for one in found] == [one.text for one in host]
    assert [one.score for one in found] == pytest.approx([one.score for one in host], rel=1e-4)


def test_bf16_says_what_it_says_on_the_host(tiny_package: ModelPackage) -> None:
    host = load_runtime(tiny_package, runtime="keras", precision="bf16").caption(IMAGES)
    engine = load_device_engine(tiny_package, precision="bf16", device="cpu", batch=64)
    found = build_runtime(engine, tiny_package, beam_width=1).caption(IMAGES)
    assert [one.text for one in found] == [one.text for one in host]


def test_jax_says_what_tensorflow_says(tiny_package: ModelPackage) -> None:
    pytest.importorskip("jax", reason="install the dev extra, which brings jax")
    script = (
        "import json, tests.tiny_model as tiny; tiny.register_encoder();"
        "from models.package import open_package;"
        "from models.device_engine import load_device_engine;"
        "from models.runtime import build_runtime;"
        f"package = open_package({str(tiny_package.directory)!r});"
        "load = lambda: load_device_engine(package, precision='float32', device='cpu', batch=32);"
        "runs = [build_runtime(load(), package, beam_width=width) for width in (1, 3)];"
        "said = [run.caption(tiny.random_pixels(70, seed=3)) for run in runs];"
        "print(json.dumps([[one.text for one in captions] for captions in said]))"
    )
    expected = [
        load_runtime(
            tiny_package, runtime="keras", precision="float32", beam_width=beam_width
        ).caption(IMAGES)
        for beam_width in (1, 3)
    ]
    said = json.loads(run_script(script, KERAS_BACKEND="jax"))
    assert said == [[one.text for one in captions] for captions in expected]


class SmallDevice:
    """Has room for a number of images; a memory in it that came earlier stays there."""

    def __init__(self, *, encoding: int, decoding: int) -> None:
        self._room = {4: (0, encoding), 6: (2, decoding)}
        self.refused: list[int] = []

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        run = tf.function(function)

        def guarded(first: Any, *others: Any) -> Any:
            axis, room = self._room[len(first.shape)]
            if first.shape[axis] > room:
                self.refused.append(first.shape[axis])
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return run(first, *others)

        return guarded


def test_batches_halve_until_both_parts_fit_the_device(
    tiny_package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = device_runtime(tiny_package, beam_width=1, batch=64).caption(IMAGES)
    device = SmallDevice(encoding=32, decoding=8)
    monkeypatch.setattr("models.device_engine.compiled", device.compiled)
    runtime = device_runtime(tiny_package, beam_width=1, batch=64)
    assert [one.text for one in runtime.caption(IMAGES)] == [one.text for one in expected]
    assert device.refused == [64, 32, 16]
    assert [one.text for one in runtime.caption(IMAGES)] == [one.text for one in expected]


def test_a_single_image_that_does_not_fit_is_an_error(
    tiny_package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SmallDevice(encoding=0, decoding=0)
    monkeypatch.setattr("models.device_engine.compiled", device.compiled)
    with pytest.raises(Exception, match="OOM"):
        device_runtime(tiny_package, beam_width=1, batch=4).caption(IMAGES[:3])


def test_a_batch_that_does_not_halve_is_refused() -> None:
    with pytest.raises(ValueError, match="a power of two, not 48"):
        DeviceEngine(make_tiny_captioner(), batch=48)
