"""A model that is named by its alias in a registry, through the jobs as they are run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from conf.environments import load_environment
from conf.evaluation import ManageSettings
from conf.resolve import Resolved
from conf.settings import CaptionSettings
from jobs import caption_images, manage_models
from jobs.stopping import Stop
from models.gate import Measurement
from models.package import ModelPackage
from models.registry import promote, register
from tests.captioning import captions, fill, places
from tests.tiny_model import make_tiny_package


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    with contextlib.chdir(tmp_path):  # MLflow puts artifacts into ./mlruns
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("registry")
        yield uri
    mlflow.set_tracking_uri(before)


def caption_with_champion(folder: Path, store: str, *, run_id: str) -> set[str]:
    """Run the job and return the model versions of its rows."""
    settings = CaptionSettings(
        model="models:/captioner@champion",
        precision="float32",
        tracking_uri=store,
        run_id=run_id,
        **places(folder),
    )
    caption_images.main(Resolved(settings, load_environment("local"), {}), Stop())
    return {row["model_version"] for row in captions(folder / "lake") if row["run_id"] == run_id}


def test_captions_are_the_champions_before_and_after_a_rollback(
    keep_session: None, tiny_package: ModelPackage, store: str, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 2)
    second = make_tiny_package(tmp_path / "packages", seed=8)
    for package in (tiny_package, second):
        number = register(
            package,
            figures={"cider": 0.5},
            measurement=Measurement("dev", 3, "int8"),
            tracking_uri=store,
        )
        promote(number, tracking_uri=store)
    assert caption_with_champion(tmp_path, store, run_id="one") == {second.version}

    rollback = ManageSettings(action="rollback", tracking_uri=store)
    manage_models.main(Resolved(rollback, load_environment("local"), {}), Stop())
    assert caption_with_champion(tmp_path, store, run_id="two") == {tiny_package.version}
