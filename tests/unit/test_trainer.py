"""The training loop on a tiny network and photographs of plain colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from conf.errors import InputError, ModelError
from models.captioner import Captioner, CaptionerConfig
from models.tokenizer import Tokenizer
from models.training import phase_run
from models.training.checkpoint import Progress, save_checkpoint
from models.training.evaluation import DevCaptioner
from models.training.plan import Phase, TrainingPlan
from models.training.shards import Shards
from models.training.trainer import Trainer
from tests.tiny_model import SIDE, register_encoder
from tests.training_data import Notebook, make_shards

PHASES = (
    Phase("frozen", epochs=2, learning_rate=3e-3, batch_images=6, warmup_steps=2),
    Phase("finetune", epochs=1, learning_rate=1e-3, batch_images=6, warmup_steps=2),
    Phase("self_critical", epochs=1, learning_rate=1e-4, batch_images=6, warmup_steps=2),
)
PLAN = TrainingPlan(phases=PHASES, views=2, beam_width=2, checkpoint_steps=2, seed=3)


Finished = tuple[Trainer, Notebook]


class StopAfter:
    """Asks to stop at the n-th question."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def make_trainer(
    folder: Path,
    *,
    plan: TrainingPlan = PLAN,
    is_stopping: Callable[[], bool] = lambda: False,
    listener: Notebook | None = None,
    starts_trained: bool = False,
    weights_seed: int = 5,
) -> Trainer:
    register_encoder()
    train = make_shards(folder / "train", images=24)
    dev = make_shards(folder / "dev", images=6, seed=1)
    tokenizer = Tokenizer.from_captions([t for c in train.captions for t in c], min_count=2)
    keras.utils.set_random_seed(weights_seed)
    config = CaptionerConfig(
        "tiny", SIDE, tokenizer.vocabulary_size, max_length=10, width=16, heads=2, ffn=32
    )
    return Trainer(
        Captioner(config),
        tokenizer,
        plan=plan,
        train=train,
        dev=dev,
        directory=folder / "training",
        listener=listener or Notebook(),
        starts_trained=starts_trained,
        is_stopping=is_stopping,
    )


def weights_of(trainer: Trainer) -> list[npt.NDArray[Any]]:
    return [np.asarray(variable) for variable in trainer.model.variables]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    listener = Notebook()
    trainer = make_trainer(tmp_path_factory.mktemp("finished"), listener=listener)
    trainer.run()
    return trainer, listener


def test_every_phase_reports_each_of_its_epochs(finished: Finished) -> None:
    _, listener = finished
    phases = [(report.phase, report.epoch) for report in listener.epochs]
    assert phases == [("frozen", 1), ("frozen", 2), ("finetune", 1), ("self_critical", 1)]


def test_the_model_ends_with_the_weights_that_were_best_on_dev(finished: Finished) -> None:
    trainer, listener = finished
    figures, _ = trainer.describe_dev(None)
    best = max(report.figures["cider"] for report in listener.epochs)
    assert figures["cider"] == pytest.approx(best, abs=0.02)


def test_a_training_stopped_in_any_phase_ends_with_the_weights_of_one_that_was_not(
    finished: Finished, tmp_path: Path
) -> None:
    stops = [
        make_trainer(tmp_path, is_stopping=StopAfter(questions)).run()
        for questions in (10, 8, 10, 3)  # the last time while dev is captioned
    ]
    assert [(one.phase, one.step) for one in stops] == [(0, 5), (1, 2), (2, 2), (2, 4)]
    resumed = make_trainer(tmp_path)
    resumed.run()
    for mine, theirs in zip(weights_of(resumed), weights_of(finished[0]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_training_stops_before_it_writes_features(tmp_path: Path) -> None:
    make_trainer(tmp_path, is_stopping=StopAfter(1)).run()
    assert not list((tmp_path / "training" / "features").rglob("*.npy"))


def test_a_training_stops_before_it_measures_the_initial_model(tmp_path: Path) -> None:
    listener = Notebook()
    stopping = StopAfter(0)
    make_trainer(tmp_path, is_stopping=stopping, listener=listener, starts_trained=True).run()
    assert not listener.epochs


def test_dev_is_captioned_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, sizes = make_trainer(tmp_path), list[int]()
    trainer.dev = make_shards(tmp_path / "more", images=70)
    caption = DevCaptioner.caption

    def count(captioner: DevCaptioner, features: npt.NDArray[Any]) -> list[str]:
        sizes.append(len(features))
        return caption(captioner, features)

    monkeypatch.setattr(DevCaptioner, "caption", count)
    (cached,) = trainer.cached_features(trainer.dev, views=1)
    assert trainer.describe_dev(cached) == trainer.describe_dev(None)
    assert sizes == [64, 6, 64, 6]


class Killed(Exception):
    """What ends the training in the place of a kill."""


def test_a_training_killed_between_its_best_weights_and_their_checkpoint_repeats_that_epoch(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(path: Path, progress: Progress, *rest: Any, **facts: Any) -> None:
        if (progress.phase, progress.step) == (1, 4):
            raise Killed
        save_checkpoint(path, progress, *rest, **facts)

    plan = replace(PLAN, checkpoint_steps=100)  # none within the epoch
    struck = make_trainer(tmp_path, plan=plan)
    with monkeypatch.context() as patch:
        patch.setattr(phase_run, "save_checkpoint", strike)
        with pytest.raises(Killed):
            struck.run()
    assert struck.best_path.stat().st_mtime_ns > struck.checkpoint_path.stat().st_mtime_ns
    resumed = make_trainer(tmp_path, plan=plan)
    resumed.run()
    for mine, theirs in zip(weights_of(resumed), weights_of(finished[0]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, is_stopping=StopAfter(4)).run()
    other = make_trainer(tmp_path, plan=replace(PLAN, seed=4))
    with pytest.raises(ModelError, match="other options or data"):
        other.run()


def test_a_checkpoint_of_a_training_from_other_weights_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, is_stopping=StopAfter(4)).run()
    with pytest.raises(ModelError, match="from another model"):
        make_trainer(tmp_path, weights_seed=6).run()


def test_a_training_in_another_precision_is_another_training(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path).identity
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = make_trainer(tmp_path).identity
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert whole == make_trainer(tmp_path).identity != half


@pytest.mark.parametrize(
    ("batch_images", "checkpoint_steps"),
    [(6, 100), (24, 100), (6, 1)],
    ids=["by its loss", "at the end of an epoch", "at a checkpoint"],
)
def test_a_phase_that_diverges_is_an_error_and_leaves_no_such_weights(
    tmp_path: Path, batch_images: int, checkpoint_steps: int
) -> None:
    wild = Phase("frozen", epochs=1, learning_rate=1e39, batch_images=batch_images, warmup_steps=1)
    trainer = make_trainer(
        tmp_path, plan=replace(PLAN, phases=(wild,), checkpoint_steps=checkpoint_steps)
    )
    with pytest.raises(ModelError, match=r"frozen phase diverged.*a lower --frozen-rate"):
        trainer.run()
    assert not trainer.best_path.exists()
    kept = np.load(trainer.checkpoint_path)
    assert all(np.isfinite(kept[name]).all() for name in kept if name != "facts")


def test_a_phase_ends_early_when_dev_stays_as_it_was(tmp_path: Path) -> None:
    still = Phase("frozen", epochs=6, learning_rate=1e-12, batch_images=6, patience=1)
    listener = Notebook()
    make_trainer(tmp_path, plan=replace(PLAN, phases=(still,)), listener=listener).run()
    assert len(listener.epochs) == 2


def test_a_training_that_makes_a_trained_model_worse_leaves_it_as_it_was(
    finished: Finished, tmp_path: Path
) -> None:
    harmful = Phase("frozen", epochs=1, learning_rate=1.0, batch_images=6, warmup_steps=1)
    listener = Notebook()
    trainer = make_trainer(
        tmp_path,
        plan=replace(PLAN, phases=(harmful,)),
        listener=listener,
        starts_trained=True,
    )
    trainer.model.set_weights(finished[0].model.get_weights())
    trainer.run()
    assert [(report.phase, report.is_best) for report in listener.epochs] == [
        ("initial model", True),
        ("frozen", False),
    ]
    kept, before = trainer.model.get_weights(), finished[0].model.get_weights()
    for mine, theirs in zip(kept, before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_fine_tuning_changes_the_top_of_the_encoder_and_a_frozen_phase_does_not(
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, plan=replace(PLAN, phases=PHASES[:1]))
    before = trainer.model.encoder.get_weights()
    trainer.run()
    for then, now in zip(before, trainer.model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(then, now)


def test_shards_that_were_not_finished_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished shards"):
        Shards(tmp_path)
