"""Encoders by name, and the conversion of EfficientNet-Lite0's weights."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import numpy.typing as npt
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from conf.errors import ModelError
from models import efficientnet_lite0
from models.captioner import Captioner, CaptionerConfig, load_captioner
from models.encoders import ENCODERS, build_encoder, load_encoder_weights
from models.images import preprocess_image
from models.samples import sample_photographs
from models.tokenizer import Tokenizer
from models.training.batches import pack_captions
from models.training.evaluation import DevCaptioner, numpy_encoder
from models.training.steps import TrainStep
from models.training.weights import freeze_encoder
from tests.tiny_model import WORDS, random_pixels

SIDE = 96  # the least that every encoder takes
NAMES = ("efficientnet_lite0", "inception_v3", "mobilenet_v2", "resnet50")
TOKENIZER = Tokenizer(WORDS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_each_encoder_trains_a_few_steps_saves_loads_and_captions(
    name: str, tmp_path: Path
) -> None:
    config = CaptionerConfig(
        name,
        SIDE,
        TOKENIZER.vocabulary_size,
        max_length=8,
        width=16,
        heads=2,
        ffn=32,
        dropout=0.0,
    )
    keras.utils.set_random_seed(1)
    model = Captioner(config)
    freeze_encoder(model, tuned_share=0.3)
    step = TrainStep(model, label_smoothing=0.1, weight_decay=0.01, clip_norm=5.0, encoder_rate=0.2)
    pixels = random_pixels(2, side=SIDE)
    batch = pack_captions([[TOKENIZER.encode("a dog runs", max_length=8)]] * 2)
    losses = [float(step(pixels, batch, rate=1e-3)) for _ in range(6)]
    assert min(losses[1:]) < losses[0]  # deep untrained encoders don't fall at every step
    model.save_weights(str(tmp_path / "model.weights.h5"))
    loaded = load_captioner(config, tmp_path / "model.weights.h5")
    assert _captions(loaded, pixels) == _captions(model, pixels)


def _captions(model: Captioner, pixels: npt.NDArray[np.uint8]) -> list[str]:
    features = numpy_encoder(model)(pixels)
    return DevCaptioner(model, TOKENIZER, beam_width=1).caption(features)


def test_an_unknown_encoder_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="no encoder named 'vgg'"):
        CaptionerConfig("vgg", SIDE, 10)


def test_weights_of_another_network_are_refused_naming_the_layer(tmp_path: Path) -> None:
    pixels = keras.Input((SIDE, SIDE, 3))
    other = keras.Model(pixels, keras.layers.Conv2D(7, 5, name="stem")(pixels))
    other.save_weights(str(tmp_path / "other.weights.h5"))
    network = ENCODERS["efficientnet_lite0"].build(SIDE)
    with pytest.raises(ModelError, match=r"does not fit the encoder efficientnet_lite0.*stem"):
        load_encoder_weights(network, tmp_path / "other.weights.h5")


def test_an_earlier_form_of_file_of_another_network_is_refused_naming_the_layer(
    tmp_path: Path,
) -> None:
    """The files are written by Keras's own function for the form of its "notop" files."""
    small, other = (_two_convolutions(channels) for channels in (7, 9))
    path = tmp_path / "notop.h5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, small)
    load_encoder_weights(_two_convolutions(7), path)
    with pytest.raises(ModelError, match=r"it has layer second .* where layer second .*9"):
        load_encoder_weights(other, path)
    network = ENCODERS["efficientnet_lite0"].build(SIDE)
    with pytest.raises(ModelError, match=r"it has layer first .*5, 5, 3, 4.* where layer stem"):
        load_encoder_weights(network, path)


def _two_convolutions(channels: int) -> keras.Model:
    pixels = keras.Input((SIDE, SIDE, 3))
    first = keras.layers.Conv2D(4, 5, name="first")(pixels)
    normal = keras.layers.BatchNormalization(name="normal")(first)
    return keras.Model(pixels, keras.layers.Conv2D(channels, 3, name="second")(normal))


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_takes_its_least_size(name: str) -> None:
    size = ENCODERS[name].least_size
    assert all(ENCODERS[name].build(size).output_shape[1:])


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"no weights file /nowhere\.h5"):
        build_encoder("efficientnet_lite0", image_size=SIDE, weights="/nowhere.h5")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Path) * 4)
    with pytest.raises(ModelError, match=r"it asks for pathlib\.Path"):
        efficientnet_lite0.read_checkpoint(path)


def test_a_checkpoint_of_another_network_is_refused_naming_the_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrays = efficientnet_lite0.read_checkpoint(efficientnet_lite0.packaged_checkpoint())
    arrays["_blocks.2._project_conv.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    monkeypatch.setattr(efficientnet_lite0, "read_checkpoint", lambda _: arrays)
    network = ENCODERS["efficientnet_lite0"].build(SIDE)
    with pytest.raises(ModelError, match="at layer block2_project"):
        efficientnet_lite0.load_checkpoint(network, Path("some.pth"))


def test_a_checkpoint_of_pytorch_is_refused_for_an_encoder_that_has_none() -> None:
    network = ENCODERS["mobilenet_v2"].build(SIDE)
    with pytest.raises(ModelError, match=r"which the encoder mobilenetv2.* can't read"):
        load_encoder_weights(network, efficientnet_lite0.packaged_checkpoint())


def test_the_imagenet_weights_name_what_is_in_a_photograph() -> None:
    """The classifier that came with the weights knows a coffee cup; a wrong conversion can't."""
    arrays = efficientnet_lite0.read_checkpoint(efficientnet_lite0.packaged_checkpoint())
    network = build_encoder("efficientnet_lite0", image_size=224, weights="imagenet")
    coffee = next(path for path in sample_photographs() if path.stem == "coffee")
    pixels = preprocess_image(coffee.read_bytes(), size=224).pixels
    assert pixels is not None
    pooled = np.asarray(network(pixels[None].astype(np.float32))).mean(axis=(1, 2))
    scores = pooled @ arrays["_fc.weight"].T + arrays["_fc.bias"]
    assert scores[0].argmax() in (504, 967)  # "coffee mug", "espresso"


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    config = CaptionerConfig(
        "efficientnet_lite0", SIDE, 20, max_length=8, width=16, heads=2, ffn=32, depth=1
    )
    Captioner(config).save_weights(str(tmp_path / "shallow.weights.h5"))
    with pytest.raises(ModelError, match="does not fit the model"):
        load_captioner(replace(config, depth=2), tmp_path / "shallow.weights.h5")
