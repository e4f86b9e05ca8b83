"""What training on JAX computes, each part against a plain account of the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from models.decoding import END, PAD, START
from models.training.batches import pack_captions
from models.training.cider import CiderReward
from tests.fresh_python import run_script
from tests.tiny_model import make_tiny_captioner, random_pixels

jax = pytest.importorskip("jax", reason="install the dev extra, which brings jax")

from models.training.accelerated import optimizer as optimizers  # noqa: E402
from models.training.accelerated.augment import Changes, augment  # noqa: E402
from models.training.accelerated.reward import make_references, score  # noqa: E402
from models.training.accelerated.trainer import may_mirror, tells_sides  # noqa: E402
from models.training.plan import TrainingPlan  # noqa: E402

NO_CHANGE = Changes(smallest_side=1.0, brightness=0.0, tint=0.0, mirrored=0.0)
KEY = jax.random.key(1)


def random_captions(random: np.random.Generator, count: int) -> list[list[int]]:
    """Captions of few words, so that n-grams recur within and between them."""
    lengths = random.integers(1, 12, count)
    return [[*random.integers(4, 10, length).tolist(), END] for length in lengths]


def as_array(captions: list[list[int]], length: int = 12) -> npt.NDArray[np.int32]:
    padded = np.full((len(captions), length), PAD, np.int32)
    for row, caption in enumerate(captions):
        padded[row, : len(caption)] = caption
    return padded


def test_the_reward_on_the_device_is_that_of_the_plain_scorer() -> None:
    random = np.random.default_rng(2)
    references = [random_captions(random, 1 + image % 5) for image in range(30)]
    padded = np.stack([np.pad(as_array(row), ((0, 5 - len(row)), (0, 0))) for row in references])
    captions = random_captions(random, 200)
    images = random.integers(0, 30, 200)
    plain = CiderReward(references.__getitem__, images=len(references))
    pairs = zip(images, captions, strict=True)
    expected = [plain.score(int(image), [caption])[0] for image, caption in pairs]
    found = score(as_array(captions), images, make_references(padded))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 0 < np.mean(expected) < 9


def test_a_copy_without_changes_is_the_photograph() -> None:
    pixels = random_pixels(3)
    copies = augment(pixels, np.ones(3, bool), KEY, NO_CHANGE)
    np.testing.assert_allclose(copies, pixels, atol=0.51)


def test_only_photographs_that_tell_no_sides_are_mirrored() -> None:
    pixels, may_mirror = random_pixels(4), np.array([True, False, True, False])
    copies = augment(pixels, may_mirror, KEY, NO_CHANGE._replace(mirrored=1.0))
    expected = np.where(may_mirror[:, None, None, None], pixels[:, :, ::-1], pixels)
    np.testing.assert_allclose(copies, expected, atol=0.51)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog turns left .", True),
        ("His Right hand holds a ball", True),
        ("a left-handed batter", True),
        ("a boy looks upright at a bright light", False),
        ("two dogs on grass", False),
    ],
)
def test_what_tells_left_from_right(text: str, *, expected: bool) -> None:
    assert tells_sides(["a man", text]) is expected


def test_mirroring_can_be_switched_off() -> None:
    captions = [["a dog"], ["a dog turns left"]]
    assert may_mirror(captions, TrainingPlan()) == [True, False]
    assert may_mirror(captions, TrainingPlan(mirror=False)) == [False, False]


def test_copies_differ_from_each_other_and_stay_within_the_range_of_pixels() -> None:
    pixels = np.repeat(random_pixels(1), 4, axis=0)
    copies = np.asarray(augment(pixels, np.ones(4, bool), KEY))
    assert copies.min() >= 0
    assert copies.max() <= 255
    assert len({copy.tobytes() for copy in copies}) == 4


@pytest.mark.parametrize("clip_norm", [1e9, 0.5])
def test_the_optimiser_steps_as_keras_does(clip_norm: float) -> None:
    random = np.random.default_rng(4)
    starts = [random.normal(size=(3, 2)).astype(np.float32), random.normal(size=4).astype("f4")]
    gradients = [[random.normal(size=w.shape).astype("f4") for w in starts] for _ in range(5)]
    variables = [keras.Variable(w) for w in starts]
    theirs = keras.optimizers.AdamW(
        0.1, weight_decay=0.05, beta_2=0.98, global_clipnorm=clip_norm, epsilon=1e-7
    )
    mine = optimizers.AdamW((0.05, 0.05), clip_norm, average_decay=0.9)
    weights = tuple(jax.numpy.asarray(w) for w in starts)
    state = mine.begin(weights)
    for step in gradients:
        theirs.apply(step, variables)
        weights, state = mine.apply(weights, tuple(step), state, [0.1, 0.1])
    for weight, variable in zip(weights, variables, strict=True):
        np.testing.assert_allclose(weight, np.asarray(variable), atol=2e-4)
    assert moved_less(state.average, weights, starts)


LOSS_ON_JAX = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from models.training.accelerated import passes
from models.training.accelerated.network import Network
from tests.unit.test_accelerated_parts import loss_case
passes.augment = lambda pixels, may_mirror, key: pixels.astype(jnp.float32)
model, pixels, captions = loss_case()
model.load_weights(sys.argv[1])
network = Network(model)
batch = passes.Photographs(pixels, captions, np.zeros(4, bool), np.arange(4))
loss = jax.jit(passes.cross_entropy(network, label_smoothing=0.1))
material = passes.Material(batch, None)
print(float(loss(network.learning, network.staying, material, jax.random.key(0))))
"""


def loss_case() -> tuple[Any, Any, npt.NDArray[np.int32]]:
    """A captioner without dropout, pixels of four images and their captions, some words unknown."""
    model = make_tiny_captioner()
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    random = np.random.default_rng(6)
    captions = np.full((4, 3, 10), PAD, np.int32)
    for row in captions.reshape(-1, 10)[:-1]:  # the last image has one caption less
        length = random.integers(3, 9)
        row[: length + 1] = [START, *random.integers(3, 16, length - 1), END]
    return model, random_pixels(4, seed=6), captions


def test_the_cross_entropy_is_that_of_the_other_trainer(tmp_path: Path) -> None:
    model, pixels, captions = loss_case()
    weights = str(tmp_path / "start.weights.h5")
    model.save_weights(weights)
    lists = [[row[row != PAD].tolist() for row in rows if row.any()] for rows in captions]
    from models.training.steps import TrainStep

    step = TrainStep(model, label_smoothing=0.1, weight_decay=0.0, clip_norm=1.0, encoder_rate=1.0)
    expected = float(step(pixels, pack_captions(lists), rate=0.0))
    found = run_script(LOSS_ON_JAX, weights, KERAS_BACKEND="jax")
    assert float(found) == pytest.approx(expected, rel=1e-4)


def moved_less(averages: Any, weights: Any, starts: Any) -> bool:
    """Whether the averages lie behind the weights."""
    pairs = zip(averages, weights, starts, strict=True)
    return all(np.abs(a - s).sum() < np.abs(w - s).sum() for a, w, s in pairs)
