"""The models to measure with: the shipped one, and others with untrained, seeded weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.shared.results import state_of
from conf.settings import DEFAULT_MODEL
from models.decoding import END
from models.images import preprocess_image
from models.package import ModelPackage, open_package
from models.samples import sample_photographs

DEFAULT = "default"
STEPS = 10  # decoding steps of an untrained model, for every image
_NEVER = -1e4  # log-probability of <end> where it isn't forced

Pixels = npt.NDArray[np.uint8]


def prepare_package(name: str, cache: Path, *, seed: int) -> Path:
    """Return the folder of the default model, or of one with the named encoder, made once."""
    if name == DEFAULT:
        return Path(DEFAULT_MODEL)
    folder = cache / f"{name}-{seed}-{STEPS}-{state_of('models', 'models/default/manifest.json')}"
    if not folder.is_dir():
        write_untrained(name, open_package(DEFAULT_MODEL), sample_photographs(), folder, seed=seed)
    return folder


def write_untrained(
    encoder: str, like: ModelPackage, files: Sequence[Path], folder: Path, *, seed: int = 0
) -> ModelPackage:
    """A package with another encoder and the default model's words, its weights untrained.

    Each caption takes exactly `STEPS` steps: <end> is out of reach before the last place.
    """
    import keras

    from models.captioner import Captioner, CaptionerConfig
    from models.encoders import ENCODERS
    from models.packaging import write_package

    side = ENCODERS[encoder].image_size
    fields = {"encoder": encoder, "image_size": side, "max_length": STEPS + 1}
    keras.utils.set_random_seed(seed)
    captioner = Captioner(CaptionerConfig(**{**like.config.captioner, **fields}))
    bias = np.zeros(captioner.output_bias.shape, np.float32)
    bias[END] = _NEVER
    captioner.output_bias.assign(bias)
    package = write_package(
        folder,
        captioner,
        tokenizer=like.tokenizer,
        model_card="Untrained, for measuring speed.\n",
        calibration=load_pixels(files, side, count=16),
        name=encoder,
    )
    _check_steps(package, load_pixels(files, side, count=4))
    return package


def _check_steps(package: ModelPackage, pixels: Pixels) -> None:
    from models.generation import generate
    from models.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(package, precision="int8", threads=1)
    memory = engine.encode(pixels)
    (decoder,) = engine.decoders
    with mock.patch.object(decoder, "step", wraps=decoder.step) as step:
        generate([decoder], memory, package.decoding(beam_width=1))
    if step.call_count != STEPS:
        raise AssertionError(f"a caption took {step.call_count} steps instead of {STEPS}")


def load_pixels(files: Sequence[Path], side: int, *, count: int) -> Pixels:
    """`count` different images uint8 [B, S, S, 3]: crops of the photographs, seeded."""
    generator = np.random.default_rng(0)
    whole = [preprocess_image(file.read_bytes(), size=2 * side).pixels for file in files]
    known = [pixels for pixels in whole if pixels is not None]
    if not known:
        raise SystemExit("None of the given photographs can be decoded.")
    places = generator.integers(0, side, (count, 2))
    return np.stack(
        [
            known[number % len(known)][top : top + side, left : left + side]
            for number, (top, left) in enumerate(places)
        ]
    )
