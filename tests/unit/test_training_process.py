"""Training on JAX in its process, on a tiny network and photographs of plain colours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from conf.errors import EnvironmentFault, ModelError
from jobs import training_process
from jobs.training_process import LOG, train_on_jax
from models.captioner import Captioner, CaptionerConfig
from models.tokenizer import Tokenizer
from models.training.accelerated.request import TrainingRequest
from models.training.plan import Phase, TrainingPlan
from models.training.reports import EpochReport, StepReport
from tests.tiny_model import SIDE, register_encoder
from tests.training_data import make_shards

pytest.importorskip("jax", reason="install the dev extra, which brings jax")

PHASES = (
    Phase("frozen", epochs=20, learning_rate=1e-2, batch_images=6, warmup_steps=9, patience=20),
    Phase("finetune", epochs=2, learning_rate=3e-3, batch_images=6, warmup_steps=2, patience=9),
    Phase("self_critical", epochs=2, learning_rate=1e-4, batch_images=6, warmup_steps=2),
)
PLAN = TrainingPlan(phases=PHASES, seed=3, average_decay=0.5)
REGISTER = "import tests.tiny_model; tests.tiny_model.register_encoder()\n"


class Notebook:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.epochs: list[EpochReport] = []

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)

    def on_epoch(self, report: EpochReport) -> None:
        self.epochs.append(report)


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every Python that this test starts knows the tiny encoder, and compiles nothing twice."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(REGISTER, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        patch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling is most of it
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


Trained = tuple[Captioner, Notebook]


def train(
    folder: Path,
    *,
    plan: TrainingPlan = PLAN,
    starts_trained: bool = False,
    stops: Callable[[Notebook], bool] = lambda _: False,
) -> Trained:
    register_encoder()
    shards = make_shards(folder / "train", images=24)
    dev = make_shards(folder / "dev", images=6, seed=1)
    tokenizer = Tokenizer.from_captions([t for c in shards.captions for t in c], min_count=2)
    keras.utils.set_random_seed(5)
    config = CaptionerConfig(
        "tiny", SIDE, tokenizer.vocabulary_size, max_length=10, width=16, heads=2, ffn=32
    )
    model, listener = Captioner(config), Notebook()
    request = TrainingRequest(
        folder / "training",
        config,
        plan,
        shards.directory,
        dev.directory,
        starts_trained=starts_trained,
    )
    train_on_jax(model, tokenizer, request, listener=listener, is_stopping=lambda: stops(listener))
    return model, listener


def has_reached(phase: str, told: Notebook) -> bool:
    return any(report.phase == phase for report in told.epochs)


def weights_of(model: Captioner) -> list[npt.NDArray[Any]]:
    return [np.asarray(v) for v in model.variables if str(v.dtype) == "float32"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: None) -> Trained:
    return train(tmp_path_factory.mktemp("finished"))


def test_every_phase_tells_of_each_of_its_epochs(finished: Trained) -> None:
    told = [(report.phase, report.epoch) for report in finished[1].epochs]
    expected = [(phase.kind, n + 1) for phase in PHASES for n in range(phase.epochs)]
    assert told == expected
    assert [step.total_steps for step in finished[1].steps] == [80] * 20 + [8] * 2 + [8] * 2


def test_it_learns_to_tell_the_colours(finished: Trained) -> None:
    first, *_, last = finished[1].epochs
    assert last.figures["cider"] > 2 * first.figures["cider"]
    colours = ("red", "green", "blue") * 2
    assert all(c in text for c, text in zip(colours, last.captions, strict=True)), last.captions


def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    finished: Trained, tmp_path: Path
) -> None:
    for phase in ("frozen", "finetune"):
        _, listener = train(tmp_path, stops=partial(has_reached, phase))
        assert listener.epochs[-1].phase == phase
    model, listener = train(tmp_path)
    assert listener.epochs[-1].phase == "self_critical"
    for mine, theirs in zip(weights_of(model), weights_of(finished[0]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_a_trained_model_stays_where_nothing_better_comes(
    tmp_path: Path, tiny_encoder: None
) -> None:
    harmful = Phase("frozen", epochs=1, learning_rate=1e-9, batch_images=6, warmup_steps=1)
    plan = TrainingPlan(phases=(harmful,), seed=3)
    model, listener = train(tmp_path, plan=plan, starts_trained=True)
    assert listener.epochs[0].phase == "initial model"
    keras.utils.set_random_seed(5)
    for mine, theirs in zip(weights_of(model), weights_of(Captioner(model.config)), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_what_it_refuses_is_named(tmp_path: Path, tiny_encoder: None) -> None:
    train(tmp_path, stops=partial(has_reached, "frozen"))
    with pytest.raises(ModelError, match="other options or data"):
        train(tmp_path, plan=TrainingPlan(phases=PHASES, seed=4))


def test_a_process_that_dies_leaves_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: None
) -> None:
    monkeypatch.setattr(training_process, "MODULE", "models.training.no_such_module")
    with pytest.raises(EnvironmentFault, match="ended with code 1") as failure:
        train(tmp_path)
    log = tmp_path / "training" / LOG
    assert str(log) in failure.value.remedy
    assert "no_such_module" in log.read_text(encoding="utf-8")
