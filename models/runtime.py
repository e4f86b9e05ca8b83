"""One way to caption pixels, whichever engine runs the model.

Shapes: B images asked for (any number), S image side, L decoder layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from conf.errors import ModelError
from models.decoding import DecodingParameters, Memory, StepBackend
from models.generation import generate
from models.package import ModelPackage
from models.tokenizer import Tokenizer

Runtime = Literal["openvino", "keras"]
Precision = Literal["int8", "bf16", "float32"]
Pixels = npt.NDArray[np.uint8]
R = TypeVar("R")
log = logging.getLogger("captionlake")


class Caption(NamedTuple):
    """What is said of one image, and exp(mean log-probability per token, end included), 0-1."""

    text: str
    score: float


class Engine(Protocol):
    """What a runtime needs of an inference library; batch shapes are fixed inside."""

    def encode(self, pixels: Pixels) -> Memory:
        """What the decoder looks at, [2L, B, ...], of pixels uint8 [B, S, S, 3], RGB."""

    @property
    def decoder(self) -> StepBackend:
        """The step function and its caches."""

    def halve(self) -> bool:
        """Use half the batch from now on; False where it can't be smaller."""


class CaptionRuntime:
    """Captions any number of images; each is encoded once, whatever the beam."""

    def __init__(
        self,
        engine: Engine,
        *,
        tokenizer: Tokenizer,
        image_size: int,
        decoding: DecodingParameters,
    ) -> None:
        self.image_size = image_size
        self._engine = engine
        self._tokenizer = tokenizer
        self._decoding = decoding

    def encode(self, pixels: Pixels) -> Memory:
        """What `generate` takes, [2L, B, ...], of pixels uint8 [B, S, S, 3], RGB; B at least 1."""
        return self._within_memory(lambda: self._engine.encode(pixels))

    def generate(self, memory: Memory) -> list[Caption]:
        """Captions of what `encode` returned, in order."""
        found = self._within_memory(lambda: generate(self._engine.decoder, memory, self._decoding))
        return [Caption(self._tokenizer.decode(words.tokens), words.score) for words in found]

    def caption(self, pixels: Pixels) -> list[Caption]:
        """Captions of pixels uint8 [B, S, S, 3], RGB, in order; B may be 0."""
        return self.generate(self.encode(pixels)) if len(pixels) else []

    def _within_memory(self, work: Callable[[], R]) -> R:
        """Do the work; where the device's memory is too small for it, again in smaller batches."""
        while True:
            try:
                return work()
            except Exception as error:  # each backend has a class of its own for it
                if not is_out_of_memory(error) or not self._engine.halve():
                    raise
                log.warning("The device is out of memory: going on with half the batch.")


def is_out_of_memory(error: Exception) -> bool:
    """Whether TensorFlow or JAX ran out of a device's memory."""
    return type(error).__name__ == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in str(error)


def load_runtime(
    package: ModelPackage,
    *,
    runtime: Runtime = "openvino",
    precision: Precision = "int8",
    beam_width: int = 1,
    threads: int = 1,
    device: str = "cpu",
) -> CaptionRuntime:
    """Load a package's model; raises ModelError, or EnvironmentFault for a missing device.

    ``threads`` is OpenVINO's; ``device`` is Keras's: "cpu", "gpu" or "gpu:ADDRESS". Batch shapes
    are fixed inside, so that neither how many images are passed at once nor which ones changes
    any caption.
    """
    engine = _load_engine(package, runtime, precision=precision, threads=threads, device=device)
    return CaptionRuntime(
        engine,
        tokenizer=package.tokenizer,
        image_size=package.config.image_size,
        decoding=package.decoding(beam_width=beam_width),
    )


def _load_engine(
    package: ModelPackage, runtime: Runtime, *, precision: Precision, threads: int, device: str
) -> Engine:
    if runtime == "keras":
        from models.keras_engine import load_keras_engine

        return load_keras_engine(package, precision=precision, device=device)
    if device != "cpu":
        raise ModelError(
            f"The OpenVINO runtime doesn't run on {device}.",
            remedy="Choose the Keras runtime for a GPU.",
        )
    from models.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(package, precision=precision, threads=threads)
