"""The captioner on a GPU: pixels go in, tokens come out, and nothing else crosses the bus.

Shapes: B images asked for (any number), E images of a chunk (fixed), S image side, L layers, h
heads, N grid cells, Dh width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from models.captioner import Captioner
from models.decoding import Decoded, DecodingParameters
from models.device_generation import DeviceSearch, read_sequences
from models.keras_engine import compiled, load_model, pad_rows, to_numpy
from models.package import ModelPackage

Tensor = Any
DEVICE_BATCH = 256


def load_device_engine(
    package: ModelPackage, *, precision: str, device: str, batch: int = DEVICE_BATCH
) -> DeviceEngine:
    """Load a package for "gpu", "gpu:ADDRESS" or, to try it without one, "cpu".

    ``batch`` images, a power of two, are encoded and decoded at once; fewer cost as much.

    ``precision`` is float32 or bf16. Raises EnvironmentFault for a missing GPU.
    """
    return DeviceEngine(load_model(package, precision=precision, device=device), batch=batch)


class DeviceMemory(NamedTuple):
    """What `DeviceEngine` decodes from: keys and values of so many images, left on the device."""

    chunks: list[Tensor]
    """[L, 2, E, h, N, Dh] in the model's precision; the last is padded with black images."""
    images: int


class DeviceEngine:
    """`models.runtime.Engine` that gives the device chunks of E images and fetches only tokens.

    Every chunk has the same shape, so the caption of an image doesn't depend on its batch.
    """

    def __init__(self, model: Captioner, *, batch: int) -> None:
        if batch < 1 or batch & (batch - 1):
            raise ValueError(f"a device's batch must be a power of two, not {batch}")
        self._model = model
        self._batch = batch
        self._encode = compiled(encode_on_device(model))
        self._searches: dict[DecodingParameters, Callable[..., Any]] = {}

    def encode(self, pixels: npt.NDArray[np.uint8]) -> DeviceMemory:
        """Keys and values of pixels uint8 [B, S, S, 3], each chunk sent in one transfer."""
        chunks = []
        for first in range(0, len(pixels), self._batch):
            chunk = pixels[first : first + self._batch]
            chunks.append(self._encode(pad_rows(chunk, self._batch, axis=0)))
        _wait_for(chunks)
        return DeviceMemory(chunks, len(pixels))

    def generate(self, memory: DeviceMemory, parameters: DecodingParameters) -> list[Decoded]:
        """The best sequence of each image; all chunks are under way before one is fetched."""
        search = self._search(parameters)
        parts = list(self._parts(memory))
        found = [search(part, np.asarray(images, np.int32)) for part, images in parts]
        return [
            decoded
            for (tokens, totals), (_, images) in zip(found, parts, strict=True)
            for decoded in read_sequences(np.asarray(tokens)[:images], np.asarray(totals)[:images])
        ]

    def _parts(self, memory: DeviceMemory) -> Iterator[tuple[Tensor, int]]:
        """Chunks and how many images each holds, cut where `halve` came after `encode`."""
        left = memory.images
        for chunk in memory.chunks:
            whole = chunk.shape[2] == self._batch
            for first in range(0, min(chunk.shape[2], left), self._batch):
                yield (
                    chunk if whole else chunk[:, :, first : first + self._batch],
                    min(self._batch, left - first),
                )
            left -= chunk.shape[2]

    def _search(self, parameters: DecodingParameters) -> Callable[..., Any]:
        if parameters not in self._searches:
            self._searches[parameters] = compiled(decode_on_device(self._model, parameters))
        return self._searches[parameters]

    def halve(self) -> bool:
        """Encode and decode half as many at once from now on; False at a single image."""
        if self._batch == 1:
            return False
        self._batch //= 2
        return True


def encode_on_device(model: Captioner) -> Callable[[Tensor], Tensor]:
    """The function to compile: pixels uint8 [E, S, S, 3] to keys and values [L, 2, E, h, N, Dh]."""
    return lambda pixels: model.memory(model.encode(pixels))


def decode_on_device(
    model: Captioner, parameters: DecodingParameters
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The function to compile: memory [L, 2, E, h, N, Dh] and how many of the E count, int32 [].

    It returns what a `DeviceSearch` does.
    """

    def decode(memory: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        width = parameters.beam_width
        cross = ops.repeat(memory, width, axis=2) if width > 1 else memory

        def step(tokens: Tensor, position: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
            logits, cache = model.step(tokens, position, cache, cross)
            return ops.log_softmax(logits, axis=-1), cache

        steps = model.config.max_length - 1  # <end> is never fed back
        search = DeviceSearch(step, steps, parameters)
        return search(model.empty_cache(memory.shape[2] * width), images=images)

    return decode


def _wait_for(tensors: list[Tensor]) -> None:
    """Return when they are computed: what fails must fail here, and time counts where it went."""
    if keras.backend.backend() == "jax":
        for tensor in tensors:
            tensor.block_until_ready()
    else:  # TensorFlow raises at the call, and has no such function, but keeps to the order
        to_numpy(tensors[-1][0, 0, 0, 0, 0, 0])
