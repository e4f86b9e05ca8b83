"""Int8 for the encoder graph, calibrated on photographs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov

BATCH = 8

Pixels = npt.NDArray[np.uint8]


def quantize_encoder(encoder: ov.Model, calibration: Pixels) -> ov.Model:
    """A copy of the encoder graph with int8 weights and activations.

    ``calibration`` is uint8 [B, S, S, 3]; the ranges of activations are taken from it.
    """
    logging.getLogger("nncf").setLevel(logging.WARNING)
    batches = nncf.Dataset(list(_batches(calibration)))
    return nncf.quantize(
        encoder.clone(),
        batches,
        subset_size=max(1, len(calibration) // BATCH),
        preset=nncf.QuantizationPreset.MIXED,
        advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=None),
    )


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    for first in range(0, len(pixels), BATCH):
        yield pixels[first : first + BATCH]
