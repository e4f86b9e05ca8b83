"""One way to caption pixels, whichever engine runs the model.

Shapes: B images asked for (any number), S image side, N grid cells, C encoder channels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.decoding import Decoded, DecodingParameters, Floats, StepBackend
from models.generation import generate
from models.package import ModelPackage
from models.tokenizer import Tokenizer

Runtime = Literal["openvino", "keras"]
Precision = Literal["int8", "bf16", "float32"]
Pixels = npt.NDArray[np.uint8]


class Caption(NamedTuple):
    """What is said of one image, and exp(mean log-probability per token, end included), 0-1."""

    text: str
    score: float


class Engine(Protocol):
    """What a runtime needs of an inference library, all of it in batches of fixed shape."""

    encode_batch: int

    def encode(self, pixels: Pixels) -> Floats:
        """Features [encode_batch, N, C] of pixels uint8 [encode_batch, S, S, 3], RGB."""

    @property
    def decoder(self) -> StepBackend:
        """The step function and its caches."""


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

    def encode(self, pixels: Pixels) -> Floats:
        """Features float32 [B, N, C] of pixels uint8 [B, S, S, 3], RGB."""
        batch = self._engine.encode_batch
        parts = [
            self._engine.encode(_pad(chunk, batch))[: len(chunk)]
            for chunk in (pixels[first : first + batch] for first in range(0, len(pixels), batch))
        ]
        return np.concatenate(parts)

    def generate(self, features: Floats) -> list[Caption]:
        """Captions of features [B, N, C], in order."""
        found = generate(self._engine.decoder, features, self._decoding)
        return [self._to_caption(decoded) for decoded in found]

    def caption(self, pixels: Pixels) -> list[Caption]:
        """Captions of pixels uint8 [B, S, S, 3], RGB, in order."""
        return self.generate(self.encode(pixels)) if len(pixels) else []

    def _to_caption(self, decoded: Decoded) -> Caption:
        return Caption(self._tokenizer.decode(decoded.tokens), decoded.score)


def load_runtime(
    package: ModelPackage,
    *,
    runtime: Runtime = "openvino",
    precision: Precision = "int8",
    beam_width: int = 1,
    threads: int = 1,
) -> CaptionRuntime:
    """Load a package's model; raises ModelError, or EnvironmentFault for a missing device.

    ``threads`` bounds one OpenVINO runtime. Batch shapes are fixed inside, so that neither how
    many images are passed at once nor which ones changes any caption.
    """
    engine = _load_engine(package, runtime, precision, threads)
    return CaptionRuntime(
        engine,
        tokenizer=package.tokenizer,
        image_size=package.config.image_size,
        decoding=package.decoding(beam_width=beam_width),
    )


def _load_engine(
    package: ModelPackage, runtime: Runtime, precision: Precision, threads: int
) -> Engine:
    if runtime == "openvino":
        from models.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(package, precision=precision, threads=threads)
    from models.keras_engine import KerasEngine

    return KerasEngine(package, precision=precision)


def _pad(pixels: Pixels, batch: int) -> Pixels:
    if len(pixels) == batch:
        return pixels
    padded = np.zeros((batch, *pixels.shape[1:]), np.uint8)
    padded[: len(pixels)] = pixels
    return padded
