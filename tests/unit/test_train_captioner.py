"""From shards to a registered package, by the job's own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conf.errors import UsageError
from conf.training import TrainSettings
from jobs import train_captioner
from jobs.stopping import Stop, Terminated
from jobs.train_captioner import refuse_remote, refuse_untrained, size_of, tell_cut, train
from jobs.training_folders import SKIPPED
from jobs.training_log import samples_page
from jobs.training_shards import TrainingData
from models.package import ModelPackage, open_package
from models.registry import list_versions
from models.runtime import Runtime, load_runtime
from models.training.shards import Example, Shards, write_shards
from tests.tiny_model import random_pixels
from tests.training_data import COLOURS, SENTENCES

SIDE = 32
RUNTIMES: tuple[Runtime, ...] = ("keras", "openvino")


def shards_of(folder: Path, *, images: int, side: int = SIDE) -> Shards:
    colours = list(COLOURS.items())
    examples = (
        Example(
            f"{number}.jpg",
            np.full((side, side, 3), colours[number % 3][1], np.uint8),
            [text.format(colours[number % 3][0]) for text in SENTENCES],
        )
        for number in range(images)
    )
    return write_shards(examples, folder, image_size=side)


def settings_of(folder: Path, *, output: str, **changes: object) -> TrainSettings:
    (folder / f"{output}-work").mkdir(exist_ok=True)
    (folder / f"{output}-work" / SKIPPED).write_text("name\treason\tdetail\n", encoding="utf-8")
    fields: dict[str, object] = {
        "output": str(folder / output),
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "encoder_weights": "none",
        "image_size": SIDE,
        "width": 16,
        "heads": 2,
        "ffn": 32,
        "depth": 1,
        "grid_depth": 0,
        "batch_images": 6,
        "views": 1,
        "beam_width": 2,
        "frozen_epochs": 1,
        "finetune_epochs": 0,
        "self_critical_epochs": 0,
    }
    return TrainSettings(**{**fields, **changes})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_version_becomes_champion_only_if_it_beats_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_shards, dev = shards_of(tmp_path / "t", images=12), shards_of(tmp_path / "d", images=3)
    data = TrainingData(train_shards, dev, {})
    first = settings_of(tmp_path, output="first")
    train(first, data, None, Stop())
    initial = open_package(tmp_path / "first")
    second = settings_of(tmp_path, output="second", frozen_rate=1e-9)
    train(second, data, initial, Stop())
    versions = list_versions(tracking_uri=first.tracking_uri)
    assert [(one.number, one.is_champion) for one in versions] == [(2, False), (1, True)]
    assert {one.measurement.dev_set for one in versions} == {dev.fingerprint}


@pytest.mark.parametrize("trainer", ["tensorflow", "jax"])
def test_what_either_trainer_learnt_in_half_precision_is_packaged_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    if trainer == "jax":
        pytest.importorskip("jax", reason="install the dev extra, which brings jax")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    data = TrainingData(
        shards_of(tmp_path / "t", images=12), shards_of(tmp_path / "d", images=3), {}
    )
    settings = settings_of(
        tmp_path,
        output="model",
        register_model=False,
        trainer=trainer,
        mixed_precision=True,
    )
    train(settings, data, None, Stop())
    package, pixels = open_package(tmp_path / "model"), random_pixels(8, side=SIDE)
    by_keras, by_openvino = (
        load_runtime(package, runtime=runtime, precision="float32").caption(pixels)
        for runtime in RUNTIMES
    )
    assert [one.text for one in by_openvino] == [one.text for one in by_keras]
    scores = [one.score for one in by_keras]
    assert [one.score for one in by_openvino] == pytest.approx(scores, rel=1e-4)


def test_a_champion_of_another_image_size_is_measured_on_photographs_of_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for side in (SIDE, 2 * SIDE):
        train_shards = shards_of(tmp_path / f"t{side}", images=12, side=side)
        dev = shards_of(tmp_path / f"d{side}", images=3, side=side)
        chosen = settings_of(tmp_path, output=f"of-{side}", image_size=side)
        train(chosen, TrainingData(train_shards, dev, {}), None, Stop())
    versions = list_versions(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert len(versions) == 2
    assert sum(one.is_champion for one in versions) == 1


@pytest.mark.slow
def test_a_training_asked_to_stop_writes_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = TrainingData(
        shards_of(tmp_path / "t", images=6), shards_of(tmp_path / "d", images=3), {}
    )
    stop = Stop()
    stop.ask()
    with pytest.raises(Terminated):
        train(settings_of(tmp_path, output="out"), data, None, stop)
    assert not (tmp_path / "out").exists()


class StopLater(Stop):
    """Is asked to stop after so many checks."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.ask()
        super().check()


@pytest.mark.parametrize(("checks", "is_packaged"), [(2, False), (7, True)])
def test_a_training_asked_to_stop_leaves_dev_unmeasured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: int, *, is_packaged: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_captioner, "learn", lambda *_, **__: None)
    data = TrainingData(
        shards_of(tmp_path / "t", images=6), shards_of(tmp_path / "d", images=3), {}
    )
    settings = settings_of(tmp_path, output="out", register_model=False)
    with pytest.raises(Terminated):
        train(settings, data, None, StopLater(checks))
    assert (tmp_path / "out").exists() is is_packaged


def test_the_output_must_be_a_local_folder() -> None:
    with pytest.raises(UsageError, match="--output hdfs://host/model isn't a local folder"):
        refuse_remote(TrainSettings(output="hdfs://host/model"))


def test_a_training_without_any_phase_needs_a_model_to_go_on_from(
    tiny_package: ModelPackage,
) -> None:
    nothing = TrainSettings(frozen_epochs=0, finetune_epochs=0, self_critical_epochs=0)
    refuse_untrained(nothing, tiny_package)
    refuse_untrained(TrainSettings(), None)
    with pytest.raises(UsageError, match="would stay untrained"):
        refuse_untrained(nothing, None)


def test_captions_that_are_cut_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    captions = [["a dog runs", "a big, old dog runs fast"], ["a cat"]]
    tell_cut(captions, most_words=6)
    assert not caplog.messages
    tell_cut(captions, most_words=2)
    assert "2 of 3 captions have more than 2 words" in caplog.text
    assert "--max-length 8 would hold the longest" in caplog.text


@pytest.mark.parametrize(("encoder", "least"), [("inception_v3", 75), ("mobilenet_v2", 32)])
def test_an_image_size_below_what_the_encoder_takes_is_refused(encoder: str, least: int) -> None:
    fields = {"encoder": encoder, "image_size": least}
    settings = TrainSettings.model_validate(fields)
    assert size_of(settings, None) == least
    smaller = TrainSettings.model_validate(fields | {"image_size": least - 1})
    with pytest.raises(UsageError, match=f"{least - 1} is too small .* least size is {least}"):
        size_of(smaller, None)


def test_the_samples_page_shows_captions_as_text(tmp_path: Path) -> None:
    page = samples_page(shards_of(tmp_path, images=2), ["<b>a dog</b>", "a cat"])
    assert "&lt;b&gt;a dog&lt;/b&gt;" in page
    assert page.count("<img") == 2
