"""Writes a trained captioner as a model package that both runtimes read.

Weights are kept in half precision. The model is rounded to it before anything is exported, so
that Keras and OpenVINO hold exactly the same values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from models import graph_names as names
from models.captioner import Captioner
from models.decoding import DecodingParameters
from models.export import convert_decoder, convert_encoder, save_graph
from models.images import preprocessing_fingerprint
from models.package import (
    CONFIG,
    MODEL_CARD,
    TOKENIZER,
    WEIGHTS,
    ModelPackage,
    PackageConfig,
    open_package,
    seal_package,
)
from models.package_folder import refuse_foreign
from models.quantization import quantize_encoder
from models.tokenizer import Tokenizer

Pixels = npt.NDArray[np.uint8]


def write_package(
    directory: Path,
    model: Captioner,
    *,
    tokenizer: Tokenizer,
    model_card: str,
    calibration: Pixels,
    name: str = "captioner",
    decoding: DecodingParameters | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> ModelPackage:
    """Write a package folder in one move, replacing one that is there; rounds the model's weights.

    Raises UsageError where the folder holds anything else, which a package would take the place of.

    ``calibration`` is a few hundred training photographs, uint8 [B, S, S, 3], for int8.
    """
    config = PackageConfig(
        name=name,
        captioner=model.config.__dict__,
        preprocessing_fingerprint=preprocessing_fingerprint(size=model.config.image_size),
        decoding=decoding or DecodingParameters(),
        lineage=lineage or {},
    )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".writing-") as folder:
        staged = Path(folder) / directory.name
        staged.mkdir()
        (staged / CONFIG).write_text(config.to_json(), encoding="utf-8")
        (staged / MODEL_CARD).write_text(model_card, encoding="utf-8")
        tokenizer.save(staged / TOKENIZER)
        save_weights(model, staged / WEIGHTS)
        _save_graphs(model, staged, calibration)
        seal_package(staged)
        open_package(staged)
        _replace(staged, directory)
    return open_package(directory)


def save_weights(model: Captioner, path: Path) -> None:
    """Round the model's matrices to half precision, and store them so; vectors keep float32."""
    for variable in model.weights:
        if _is_halved(variable.shape, str(variable.dtype)):
            variable.assign(np.asarray(variable, np.float16).astype(np.float32))
    model.save_weights(str(path))
    halved = path.with_name(f"halved-{path.name}")
    with h5py.File(path, "r") as source, h5py.File(halved, "w") as target:
        _copy_halved(source, target)
    halved.replace(path)


def _is_halved(shape: tuple[int, ...], dtype: str) -> bool:
    return len(shape) > 1 and dtype == "float32"


def _copy_halved(source: h5py.Group, target: h5py.Group) -> None:
    for key, value in source.attrs.items():
        target.attrs[key] = value
    for key, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_halved(item, target.create_group(key))
        elif _is_halved(item.shape, str(item.dtype)):
            target.create_dataset(key, data=item[...].astype(np.float16))
        else:
            source.copy(key, target)


def _save_graphs(model: Captioner, directory: Path, calibration: Pixels) -> None:
    (directory / names.ENCODER).parent.mkdir()
    encoder = convert_encoder(model)
    quantized = quantize_encoder(encoder, calibration)
    for graph, name in (
        (encoder, names.ENCODER),
        (quantized, names.QUANTIZED_ENCODER),
        (convert_decoder(model), names.DECODER),
    ):
        save_graph(graph, directory / name)


def _replace(staged: Path, directory: Path) -> None:
    """Rename is the only step that others see; a reader finds the old package or the new one."""
    refuse_foreign(directory)
    if directory.exists():
        directory.rename(staged.with_name("replaced"))
    staged.rename(directory)
