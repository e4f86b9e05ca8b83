"""A captioner small enough to build in seconds, with random weights that speak of their input.

Its captions are nonsense, but they differ from image to image, end at different lengths, and are
the same in every run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.package import ModelPackage
from models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import keras

    from models.captioner import Captioner

SIDE = 32
WORDS = ("a", "dog", "child", "runs", "jumps", "on", "in", "the", "red", "blue", "grass", "man")


def make_tiny_package(folder: Path, *, name: str = "tiny", seed: int = 7) -> ModelPackage:
    """Write a package of a few hundred kilobytes to folder/name, both runtimes' forms included."""
    from models.packaging import write_package

    return write_package(
        folder / name,
        make_tiny_captioner(seed=seed),
        tokenizer=Tokenizer(WORDS),
        model_card="# Tiny\n\nRandom weights, for tests only.\n",
        calibration=random_pixels(8, seed=seed),
        name=name,
    )


def make_tiny_captioner(*, seed: int = 7) -> Captioner:
    """Build the network with the same random weights for the same seed."""
    import keras

    from models.captioner import Captioner, CaptionerConfig

    register_encoder()
    keras.utils.set_random_seed(seed)
    size = Tokenizer(WORDS).vocabulary_size
    config = CaptionerConfig("tiny", SIDE, size, max_length=10, width=16, heads=2, ffn=32)
    captioner = Captioner(config)
    _spread(captioner, seed=seed)
    return captioner


def register_encoder() -> None:
    """Make the encoder known to Keras in this process; OpenVINO needs no such thing."""
    from models.encoders import ENCODERS, Encoder

    ENCODERS.setdefault("tiny", Encoder(SIDE, _build_encoder, fetch=_keep_random))


def random_pixels(count: int, *, side: int = SIDE, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Blocks of colour, uint8 [count, side, side, 3]: as different as photographs."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.repeat(np.repeat(coarse, side // 4, axis=1), side // 4, axis=2)


def _build_encoder(size: int) -> keras.Model:
    import keras

    pixels = keras.Input((size, size, 3), name="pixels")
    grid = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    for number, channels in enumerate((8, 16, 24)):
        grid = keras.layers.Conv2D(channels, 3, strides=2, padding="same", name=f"c{number}")(grid)
        grid = keras.layers.ReLU()(grid)
    return keras.Model(pixels, grid, name="tiny")


def _keep_random(network: keras.Model) -> None:
    """There are no ImageNet weights for this encoder."""


def _spread(captioner: Captioner, *, seed: int) -> None:
    """Make what the image says loud, so that captions differ and don't hang on rounding."""
    generator = np.random.default_rng(seed)
    for variable in captioner.weights:
        if len(variable.shape) == 2 and ("cross" in variable.path or "kv" in variable.path):
            variable.assign(generator.normal(0.0, 0.8, variable.shape).astype(np.float32))
    embedding = generator.normal(0.0, 0.9, captioner.embedding.shape)
    captioner.embedding.assign(embedding.astype(np.float32))
    bias = np.zeros(captioner.output_bias.shape, np.float32)
    bias[2] = 3.0  # <end> comes up often enough for captions of many lengths
    captioner.output_bias.assign(bias)
