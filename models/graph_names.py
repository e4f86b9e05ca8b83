"""What the tensors of a package's OpenVINO graphs are called; writer and reader share it."""

from __future__ import annotations

ENCODER = "openvino/encoder.xml"
QUANTIZED_ENCODER = "openvino/encoder_int8.xml"
DECODER = "openvino/decoder.xml"

PIXELS = "pixels"
TOKENS = "tokens"
POSITIONS = "positions"
LOG_PROBABILITIES = "log_probabilities"


def memory_names(depth: int) -> list[str]:
    """The image's keys and values: the encoder's outputs, and inputs of the decoder."""
    return [f"{kind}_{layer}" for layer in range(depth) for kind in ("keys", "values")]


def cache_names(depth: int) -> list[str]:
    """Keys and values of earlier tokens, inputs of the decoder."""
    return [f"cached_{name}" for name in memory_names(depth)]


def added_names(depth: int) -> list[str]:
    """Key and value of this token, outputs of the decoder."""
    return [f"new_{name}" for name in memory_names(depth)]
