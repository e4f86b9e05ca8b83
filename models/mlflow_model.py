"""A model package as an MLflow model: signature and input example beside it, no code, no pickle."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.types import ColSpec, Schema, TensorSpec

from models.package import ModelPackage

FLAVOR = "captionlake"


def log_package(package: ModelPackage, *, name: str, run_id: str | None) -> int:
    """Log to the tracking store that is set, register under a name; returns the version number."""
    logged = Model.log(
        None,
        SimpleNamespace(__name__=FLAVOR, save_model=_save_model),
        registered_model_name=name,
        name=name,
        run_id=run_id,
        package=package,
        validate_serving_input=False,  # MLflow serves only what it may load, and that is code
    )
    return int(logged.registered_model_version)


def _save_model(path: str, mlflow_model: Model, *, package: ModelPackage, **_: Any) -> None:
    """What MLflow calls to fill the model's folder."""
    shutil.copytree(package.directory, Path(path) / "package")
    side = package.config.image_size
    mlflow_model.signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, side, side, 3), "pixels")]),
        outputs=Schema([ColSpec("string", "caption"), ColSpec("double", "score")]),
    )
    _save_example(mlflow_model, {"pixels": _gradient(side)}, path)
    mlflow_model.add_flavor(FLAVOR, model_version=package.version, package="package")
    mlflow_model.save(str(Path(path) / "MLmodel"))


def _gradient(side: int) -> Any:
    """An image anyone may have, uint8 [1, S, S, 3]: red grows rightwards, green downwards."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return np.stack([red, green, np.full_like(red, 128)], axis=-1)[None]
