"""One way to caption pixels, whichever engine runs the model.

Shapes: B images asked for (any number), S image side, L decoder layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from conf.errors import ModelError
from models.decoding import Decoded, DecodingParameters
from models.generation import HostSearch
from models.package import ModelPackage
from models.tokenizer import Tokenizer

Runtime = Literal["openvino", "keras"]
Precision = Literal["int8", "bf16", "float32"]
Pixels = npt.NDArray[np.uint8]
Encoded = Any  # what an engine's search looks at: an array [2L, B, ...], or tensors on a device
R = TypeVar("R")
log = logging.getLogger("captionlake")


class Caption(NamedTuple):
    """What is said of one image, and exp(mean log-probability per token, end included), 0-1."""

    text: str
    score: float


class Engine(Protocol):
    """What a runtime needs of an inference library; batch shapes are fixed inside."""

    def encode(self, pixels: Pixels) -> Encoded:
        """What `generate` takes, of pixels uint8 [B, S, S, 3], RGB; B at least 1."""

    def generate(self, encoded: Encoded, parameters: DecodingParameters) -> list[Decoded]:
        """The best sequence of each image that `encode` took, in order."""

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

    def encode(self, pixels: Pixels) -> Encoded:
        """What `generate` takes, of pixels uint8 [B, S, S, 3], RGB; B at least 1."""
        return self._within_memory(lambda: self._engine.encode(pixels))

    def generate(self, encoded: Encoded) -> list[Caption]:
        """Captions of what `encode` returned, in order."""
        found = self._within_memory(lambda: self._engine.generate(encoded, self._decoding))
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
    return build_runtime(engine, package, beam_width=beam_width)


def build_runtime(engine: Engine, package: ModelPackage, *, beam_width: int) -> CaptionRuntime:
    """A runtime over a loaded engine, with the words and the decoding of its package."""
    return CaptionRuntime(
        engine,
        tokenizer=package.tokenizer,
        image_size=package.config.image_size,
        decoding=package.decoding(beam_width=beam_width),
    )


def refuse_misfit(runtime: Runtime, precision: Precision, *, device: str) -> None:
    """Raise ModelError where a runtime can't compute so; a driver asks before any worker does."""
    if runtime == "openvino" and device != "cpu":
        raise ModelError(
            f"The OpenVINO runtime doesn't run on {device}.",
            remedy="Choose the Keras runtime for a GPU.",
        )
    if runtime == "keras" and precision == "int8":
        raise ModelError(
            "The Keras runtime has no int8 form of a model.",
            remedy="Choose --precision bf16 or float32, or --runtime openvino.",
        )


def _load_engine(
    package: ModelPackage, runtime: Runtime, *, precision: Precision, threads: int, device: str
) -> Engine:
    refuse_misfit(runtime, precision, device=device)
    if runtime == "keras":
        from models.keras_engine import choose_device, load_keras_engine

        if device == "cpu":
            return HostSearch(load_keras_engine(package, precision=precision))
        choose_device(device)  # before Keras, which the next line imports, looks for itself
        from models.device_engine import load_device_engine

        return load_device_engine(package, precision=precision, device=device)
    from models.openvino_engine import OpenVinoEngine

    return HostSearch(OpenVinoEngine(package, precision=precision, threads=threads))
