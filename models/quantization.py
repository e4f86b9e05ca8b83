"""Int8 for the encoder graph, calibrated on photographs."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import redirect_stdout

import numpy as np
import numpy.typing as npt
import openvino as ov

BATCH = 8

Pixels = npt.NDArray[np.uint8]


def quantize_encoder(encoder: ov.Model, calibration: Pixels) -> ov.Model:
    """A copy of the encoder graph with int8 weights and activations.

    ``calibration`` is uint8 [B, S, S, 3]; the ranges of activations are taken from it.
    """
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports to its makers unless it runs in CI
    import nncf

    logging.getLogger("nncf").setLevel(logging.WARNING)
    batches = list(_batches(calibration))
    with redirect_stdout(io.StringIO()):  # its progress bars know no other way to be quiet
        return nncf.quantize(
            encoder.clone(),
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
        )


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    for first in range(0, len(pixels), BATCH):
        yield pixels[first : first + BATCH]
