"""Training on JAX in its process, on a tiny network and photographs of plain colours."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from conf.errors import EnvironmentFault, ModelError
from jobs import training_process
from jobs.training_process import LOG, train_on_jax
from models.captioner import Captioner, CaptionerConfig
from models.tokenizer import Tokenizer
from models.training.accelerated.request import TrainingRequest
from models.training.checkpoint import CHECKPOINT
from models.training.plan import Phase, TrainingPlan
from models.training.reports import EpochReport, StepReport
from models.training.weights import BEST
from tests.tiny_model import SIDE, register_encoder
from tests.training_data import Notebook, make_shards

pytest.importorskip("jax", reason="install the dev extra, which brings jax")

FROZEN_EPOCHS = 24
PHASES = (
    Phase("frozen", epochs=FROZEN_EPOCHS, learning_rate=1e-2, batch_images=6, patience=99),
    Phase("finetune", epochs=2, learning_rate=3e-3, batch_images=6, warmup_steps=2, patience=9),
    Phase("self_critical", epochs=2, learning_rate=1e-4, batch_images=6, warmup_steps=2),
)
PLAN = TrainingPlan(phases=PHASES, seed=3, average_decay=0.5)
REGISTER = "import tests.tiny_model; tests.tiny_model.register_encoder()\n"


class Striking(Notebook):
    """Sends a signal to the process that trains, after so many epochs."""

    def __init__(self, sent: signal.Signals, *, epochs: int) -> None:
        super().__init__()
        self._sent, self._epochs = sent, epochs

    def on_epoch(self, report: EpochReport) -> None:
        super().on_epoch(report)
        if len(self.epochs) == self._epochs:
            for trainer in trainers_of(os.getpid()):
                trainer.send_signal(self._sent)


class Signalling(Notebook):
    """Sets an event when the training has begun."""

    def __init__(self, event: Any) -> None:
        super().__init__()
        self._event = event

    def on_step(self, report: StepReport) -> None:
        super().on_step(report)
        self._event.set()


def trainers_of(job: int | None) -> list[psutil.Process]:
    return list(filter(is_trainer, psutil.Process(job).children(recursive=True)))


def is_trainer(process: psutil.Process) -> bool:
    try:
        return training_process.MODULE in process.cmdline()
    except psutil.NoSuchProcess:  # or a zombie that another test has left to this process
        return False


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
    listener: Notebook | None = None,
) -> Trained:
    register_encoder()
    shards = make_shards(folder / "train", images=24)
    dev = make_shards(folder / "dev", images=6, seed=1)
    tokenizer = Tokenizer.from_captions([t for c in shards.captions for t in c], min_count=2)
    keras.utils.set_random_seed(5)
    config = CaptionerConfig(
        "tiny", SIDE, tokenizer.vocabulary_size, max_length=10, width=16, heads=2, ffn=32
    )
    model, listener = Captioner(config), listener or Notebook()
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
    assert [step.total_steps for step in finished[1].steps] == [96] * 24 + [8] * 2 + [8] * 2


def test_it_learns_to_tell_the_colours(finished: Trained) -> None:
    first, *_, last = finished[1].epochs
    assert last.figures["cider"] > 2 * first.figures["cider"]
    colours = ("red", "green", "blue") * 2
    assert all(c in text for c, text in zip(colours, last.captions, strict=True)), last.captions


def assert_same_weights(mine: Captioner, theirs: Captioner) -> None:
    for one, other in zip(weights_of(mine), weights_of(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    finished: Trained, tmp_path: Path
) -> None:
    _, listener = train(tmp_path, stops=partial(has_reached, "frozen"))
    assert 0 < len(listener.epochs) < FROZEN_EPOCHS
    train(tmp_path, stops=partial(has_reached, "finetune"))
    model, listener = train(tmp_path)
    assert listener.epochs[-1].phase == "self_critical"
    assert_same_weights(model, finished[0])


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_others_end_is_a_fault_and_its_training_goes_on(
    finished: Trained, tmp_path: Path, sent: signal.Signals
) -> None:
    striking = Striking(sent, epochs=3)
    code = -sent if sent == signal.SIGKILL else 143
    with pytest.raises(EnvironmentFault, match=f"ended with code {code}"):
        train(tmp_path, listener=striking)
    assert len(striking.epochs) < FROZEN_EPOCHS
    model, listener = train(tmp_path)
    assert listener.epochs[0].epoch > 1
    assert_same_weights(model, finished[0])


def test_a_process_killed_between_its_best_weights_and_their_checkpoint_repeats_that_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: None
) -> None:
    plan = replace(PLAN, phases=(replace(PHASES[0], epochs=1), PHASES[1]))
    with monkeypatch.context() as patch:
        patch.setattr(training_process, "MODULE", "tests.struck_trainer")
        with pytest.raises(EnvironmentFault, match="code -9"):
            train(tmp_path / "struck", plan=plan)
    folder = tmp_path / "struck" / "training"
    best, checkpoint = ((folder / name).stat() for name in (BEST, CHECKPOINT))
    assert best.st_mtime_ns > checkpoint.st_mtime_ns
    resumed, _ = train(tmp_path / "struck", plan=plan)
    whole, _ = train(tmp_path / "whole", plan=plan)
    assert_same_weights(resumed, whole)


def test_a_trainer_ends_with_its_job(tmp_path: Path, tiny_encoder: None) -> None:
    spawning = multiprocessing.get_context("spawn")
    is_training = spawning.Event()
    job = spawning.Process(target=train_and_tell, args=(tmp_path, is_training))
    job.start()
    assert is_training.wait(180)
    trainers = trainers_of(job.pid)
    job.kill()
    _, alive = psutil.wait_procs(trainers, timeout=30)
    assert trainers
    assert not alive


def train_and_tell(folder: Path, is_training: Any) -> None:
    endless = Phase("frozen", epochs=10**6, learning_rate=1e-3, batch_images=6, patience=10**6)
    train(folder, plan=TrainingPlan(phases=(endless,)), listener=Signalling(is_training))


def test_a_trained_model_stays_where_nothing_better_comes(
    tmp_path: Path, tiny_encoder: None
) -> None:
    harmful = Phase("frozen", epochs=1, learning_rate=1.0, batch_images=6, warmup_steps=1)
    plan = TrainingPlan(phases=(harmful,), seed=3, average_decay=0.0)
    model, listener = train(tmp_path, plan=plan, starts_trained=True)
    assert [report.phase for report in listener.epochs] == ["initial model", "frozen"]
    assert not listener.epochs[-1].is_best
    first_learnt = np.load(tmp_path / "training" / CHECKPOINT)["v0000"]
    assert not any(np.array_equal(first_learnt, kept) for kept in weights_of(model))
    keras.utils.set_random_seed(5)
    assert_same_weights(model, Captioner(model.config))


def test_a_phase_that_diverges_is_an_error_and_leaves_no_such_weights(
    tmp_path: Path, tiny_encoder: None
) -> None:
    wild = Phase("frozen", epochs=1, learning_rate=1e39, batch_images=24, warmup_steps=1)
    with pytest.raises(ModelError, match=r"frozen phase diverged.*a lower --frozen-rate"):
        train(tmp_path, plan=TrainingPlan(phases=(wild,)))
    assert not (tmp_path / "training" / BEST).exists()
    kept = np.load(tmp_path / "training" / CHECKPOINT)
    assert all(np.isfinite(kept[name]).all() for name in kept if name != "facts")


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


@pytest.mark.parametrize(("device", "warnings"), [("cpu", 1), ("NVIDIA H100", 0)])
def test_training_without_a_gpu_is_warned_of(
    device: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    line = json.dumps({"device": device})
    assert training_process._follow([line], Notebook()) is None
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == warnings
    assert all("--trainer tensorflow" in record.message for record in told)
