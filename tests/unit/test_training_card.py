"""What is told of a trained model: its card, its lineage, and what became of it at the gate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conf.training import TrainSettings
from jobs.training_card import model_card, terms_of
from jobs.training_measure import Measured
from jobs.training_model import print_verdict, write_trained
from jobs.training_shards import TrainingData
from models.decoding import DecodingParameters
from models.gate import Verdict
from models.metrics import CaptionFigures
from models.package import MODEL_CARD, ModelPackage, open_package, seal_package
from models.tokenizer import Tokenizer
from tests.tiny_model import WORDS, make_tiny_captioner
from tests.training_data import make_shards

FIGURES = CaptionFigures(3, 0.7, 0.5, 0.4, 0.25, 0.5, 0.6, 9.0, 3, 0.4)
MEASURED = Measured(FIGURES, FIGURES, 3, ["a dog"] * 3, DecodingParameters())
CARD = "# parent\n\n## Terms\n\nResearch use only.\nCite Hodosh.\n\n## Figures\n\nmany\n"


@pytest.fixture
def parent(tiny_package: ModelPackage, tmp_path: Path) -> ModelPackage:
    """A package whose card has terms."""
    folder = Path(shutil.copytree(tiny_package.directory, tmp_path / "parent"))
    (folder / MODEL_CARD).write_text(CARD, encoding="utf-8")
    seal_package(folder)
    return open_package(folder)


def test_the_card_names_the_encoder_that_the_model_has() -> None:
    settings = TrainSettings(encoder="resnet50")
    card = model_card(settings, MEASURED, {}, encoder="mobilenet_v2", initial=None)
    assert "encoder mobilenet_v2," in card
    assert "resnet50" not in card


def test_the_terms_of_the_model_that_was_trained_on_hold_beside_the_new_ones(
    parent: ModelPackage,
) -> None:
    terms = terms_of(TrainSettings(data_terms="Our own photographs."), parent)
    assert terms.startswith("Our own photographs.\n")
    assert terms.endswith("Research use only.\nCite Hodosh.")
    assert parent.version[:12] in terms
    assert "many" not in terms


def test_equal_terms_are_said_once(parent: ModelPackage) -> None:
    both = "Research use only.\nCite Hodosh."
    assert terms_of(TrainSettings(data_terms=both), parent) == both


def test_a_model_without_terms_is_not_passed_over(tiny_package: ModelPackage) -> None:
    assert "says nothing of terms" in terms_of(TrainSettings(), tiny_package)


def test_what_is_written_names_the_package_that_was_trained_on(
    parent: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, Any] = {}

    def keep(*_: Any, **fields: Any) -> ModelPackage:
        written.update(fields)
        return parent

    monkeypatch.setattr("models.packaging.write_package", keep)
    shards = make_shards(tmp_path / "shards", images=3)
    write_trained(
        TrainSettings(output=str(tmp_path / "out")),
        TrainingData(shards, shards, {}),
        make_tiny_captioner(),
        Tokenizer(WORDS),
        MEASURED,
        run_id="run",
        initial=parent,
    )
    assert written["lineage"]["initial_model"] == parent.version
    assert f"- initial_model: {parent.version}" in written["model_card"]
    assert "encoder tiny," in written["model_card"]
    assert "Research use only." in written["model_card"]


def test_a_version_that_could_not_be_compared_is_told_with_the_way_to_promote_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = TrainSettings(tracking_uri="http://user:hidden@mlflow:5000")
    print_verdict(7, Verdict(is_champion=False, obstacle="It needs another OpenCV."), settings)
    told = capsys.readouterr().out
    assert "can't be compared with the champion, which stays: It needs another OpenCV." in told
    assert "manage_models --action promote --version 7 --name captioner" in told
    assert "hidden" not in told
