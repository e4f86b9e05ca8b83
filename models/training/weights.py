"""Which weights learn, and how they are kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import keras
import numpy as np

from models.captioner import Captioner
from models.training.whole import written_whole

BEST = "best.weights.h5"


def freeze_encoder(model: Captioner, *, tuned_share: float) -> None:
    """Let only the top ``tuned_share`` of the encoder's layers learn; 0 freezes all of it."""
    layers = [layer for layer in model.encoder.layers if layer.weights]
    first = len(layers) - round(len(layers) * tuned_share)
    model.encoder.trainable = tuned_share > 0
    for number, layer in enumerate(layers):
        layer.trainable = number >= first


def digest_weights(network: keras.Model, *, beside: str) -> str:
    """SHA-256, in hex, of a text and all weights; dropout's random states are not among them."""
    digest = hashlib.sha256(beside.encode())
    for array in network.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save_weights_whole(model: Captioner, path: Path) -> None:
    """Save weights so that a kill leaves the earlier file, never half a one."""
    with written_whole(path) as partial:
        model.save_weights(str(partial))
