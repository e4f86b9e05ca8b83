"""The captioner on Keras, led step by step: the CPU's runtime, and the reference for all others.

A GPU runs the whole search by itself: `models.device_engine`.

Shapes: E images encoded at once, R rows decoded at once (both fixed), S image side, N grid cells,
C encoder channels, V vocabulary, L layers, h heads, T tokens in a cache, Dh width of a head.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from conf.errors import EnvironmentFault
from models.decoding import Floats, Indices, Memory, Tokens
from models.package import WEIGHTS, ModelPackage

if TYPE_CHECKING:
    from models.captioner import Captioner

Tensor = Any
SMALLEST_ROWS = 16  # the widest beam
POLICIES = {"float32": "float32", "bf16": "mixed_bfloat16"}


def load_keras_engine(package: ModelPackage, *, precision: str) -> KerasEngine:
    """Load a package for the CPU; float32 or bf16."""
    return KerasEngine(load_model(package, precision=precision, device="cpu"))


def load_model(package: ModelPackage, *, precision: str, device: str) -> Captioner:
    """Load a package's network on "cpu", "gpu" or "gpu:ADDRESS", in float32 or bf16.

    Raises EnvironmentFault for a missing GPU.
    """
    choose_device(device)
    from models.captioner import CaptionerConfig, load_captioner

    with _dtype_policy(POLICIES[precision]):
        config = CaptionerConfig(**package.config.captioner)
        return load_captioner(config, package.file(WEIGHTS))


def choose_device(device: str) -> None:
    """Make Keras see one GPU or none, before it or a library under it is imported.

    Memory is taken as needed: an executor may share its GPU.

    Raises:
        EnvironmentFault: the GPU is missing, or this process holds another one already.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Addresses are nvidia-smi's, which counts by bus; CUDA on its own puts the fastest card first.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    kind, _, address = device.partition(":")
    if not {"tensorflow", "jax"} & set(sys.modules):
        if kind == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        elif address:
            os.environ["CUDA_VISIBLE_DEVICES"] = address
    if address and (held := os.environ.get("CUDA_VISIBLE_DEVICES", address)) != address:
        raise EnvironmentFault(
            f"A process that holds GPU {held} was given GPU {address}.",
            remedy="One executor takes one GPU and one task at a time, as in conf/*-gpu.toml.",
        )
    if kind == "gpu":
        _require_gpu()


def _require_gpu() -> None:
    import keras

    if not keras.distribution.list_devices("gpu"):
        raise EnvironmentFault(
            "A GPU was asked for, and Keras sees none.",
            remedy="Check nvidia-smi and that the gpu extra is installed, or choose the CPU.",
        )


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class KerasEngine:
    """`models.generation.SteppedEngine` over a `models.captioner.Captioner`."""

    def __init__(self, model: Captioner, *, encode_batch: int = 8, rows: int = 64) -> None:
        self._model = model
        self.decoders = [KerasDecoder(model, rows=rows)]
        self._batch = encode_batch
        self._encode = compiled(lambda pixels: model.memory(model.encode(pixels)))

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Memory:
        """Keys and values [2L, B, h, N, Dh] float32; see `SteppedEngine`."""
        parts = []
        for first in range(0, len(pixels), self._batch):
            chunk = pixels[first : first + self._batch]
            memory = to_numpy(self._encode(pad_rows(chunk, self._batch, axis=0)))
            parts.append(memory.reshape(-1, *memory.shape[2:])[:, : len(chunk)])
        return np.concatenate(parts, axis=1)

    def halve(self) -> bool:
        """Encode and decode half as many at once from now on; False at the smallest batch."""
        before = self.decoders[0].rows
        rows = max(SMALLEST_ROWS, before // 2)
        if self._batch == 1 and rows == before:
            return False
        self._batch = max(1, self._batch // 2)
        self.decoders = [KerasDecoder(self._model, rows=rows)]
        return True


class KerasDecoder:
    """`models.decoding.StepBackend` over a `models.captioner.Captioner`."""

    def __init__(self, model: Captioner, *, rows: int) -> None:
        from keras import ops

        def step(tokens: Tensor, position: Tensor, cache: Tensor, cross: Tensor) -> Any:
            logits, cache = model.step(tokens, position, cache, cross)
            return ops.log_softmax(logits, axis=-1), cache

        self.rows = rows
        self.max_length = model.config.max_length - 1  # <end> is never fed back
        self._step = compiled(step)
        self._take = compiled(lambda cache, sources: ops.take(cache, sources, axis=2))
        self._empty_cache = model.empty_cache(rows)
        self._cache = self._empty_cache
        self._cross: Tensor = None

    def begin(self, memory: Memory, *, copies: int) -> None:
        """Start a group; see `StepBackend`."""
        from keras import ops

        filled = pad_rows(np.repeat(memory, copies, axis=1), self.rows, axis=1)
        cross = filled.reshape(-1, 2, *filled.shape[1:])
        self._cross = ops.convert_to_tensor(cross, dtype=self._empty_cache.dtype)
        self._cache = self._empty_cache

    def step(self, tokens: Tokens, *, position: int) -> Floats:
        """Log-probabilities [R, V]; see `StepBackend`."""
        place = np.asarray([position], np.int32)
        following, self._cache = self._step(tokens, place, self._cache, self._cross)
        return to_numpy(following).copy()

    def reorder(self, sources: Indices) -> None:
        """Let row r continue row sources[r]; see `StepBackend`."""
        self._cache = self._take(self._cache, sources.astype(np.int32))


def pad_rows(array: npt.NDArray[Any], rows: int, *, axis: int) -> npt.NDArray[Any]:
    """Append zeros along an axis up to a number of rows."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, rows - array.shape[axis])
    return np.pad(array, widths) if widths[axis][1] else array


def to_numpy(tensor: Tensor) -> Floats:
    """Float32 array of any backend's float tensor."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one graph; XLA only on a GPU, since it slows depthwise layers on CPUs."""
    import keras

    graph: Callable[..., Any]
    if keras.backend.backend() == "jax":
        import jax

        graph = jax.jit(function)
        return graph
    import tensorflow as tf

    on_gpu = bool(keras.distribution.list_devices("gpu"))
    graph = tf.function(function, jit_compile=on_gpu)
    return graph
