"""The MLflow run of a training against a real store in a SQLite file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from conf.errors import EnvironmentFault
from jobs.training_folders import TRAINING
from jobs.training_log import TrainingLog, log_artifact
from jobs.training_run import mlflow_run
from models.training.reports import EpochReport, StepReport
from tests.training_data import make_shards

DATA = {"train_fingerprint": "t1", "dev_fingerprint": "d1"}
FAILURES = (
    MlflowException("the server is away"),
    OperationalError("INSERT", {}, OSError("disk I/O error")),
    OSError("no space left"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('runs') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts into ./mlruns
    yield
    mlflow.set_tracking_uri(before)


class BrokenOff(Exception):
    """What ends a training before it is done."""


def break_off(store: str, work: Path, params: dict[str, str] = DATA) -> str:
    """Open a run, leave it as a training does that is asked to stop, and return its id."""
    opened: list[str] = []
    with contextlib.suppress(BrokenOff), mlflow_run(store, work, params) as run_id:
        opened.append(run_id)
        raise BrokenOff
    return opened[0]


def status_of(store: str, run_id: str) -> str:
    return str(mlflow.MlflowClient(store).get_run(run_id).info.status)


def test_a_training_that_was_broken_off_goes_on_in_its_run(store: str, tmp_path: Path) -> None:
    first = break_off(store, tmp_path)
    assert status_of(store, first) == "FAILED"
    with mlflow_run(store, tmp_path, DATA) as second:
        pass
    assert second == first
    assert status_of(store, first) == "FINISHED"


def test_a_finished_run_is_left_as_it_is(store: str, tmp_path: Path) -> None:
    with mlflow_run(store, tmp_path, DATA) as first:
        pass
    second = break_off(store, tmp_path)
    assert second != first
    assert status_of(store, first) == "FINISHED"


def test_a_training_on_other_photographs_has_another_run(store: str, tmp_path: Path) -> None:
    first = break_off(store, tmp_path)
    assert break_off(store, tmp_path, DATA | {"train_fingerprint": "t2"}) != first


def test_a_run_is_forgotten_with_the_checkpoints(store: str, tmp_path: Path) -> None:
    first = break_off(store, tmp_path)
    for file in (tmp_path / TRAINING).iterdir():
        file.unlink()
    assert break_off(store, tmp_path) != first


def test_a_run_that_another_store_keeps_is_not_looked_for_here(store: str, tmp_path: Path) -> None:
    (tmp_path / TRAINING).mkdir()
    (tmp_path / TRAINING / "mlflow-run-id.txt").write_text("0" * 32)
    assert break_off(store, tmp_path) != "0" * 32


def test_a_store_that_cannot_be_opened_ends_the_training_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with (
        pytest.raises(EnvironmentFault, match="can't be used") as raised,
        mlflow_run(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, DATA),
    ):
        pass
    assert "\n" not in str(raised.value)


def fail_with(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_store_that_fails_midway_costs_one_warning_and_not_the_training(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    dev = make_shards(tmp_path / "dev", images=1)
    epoch = EpochReport(
        "frozen", 1, 2, {"cider": 0.5, "bleu_4": 0.2}, is_best=True, captions=["a wall"]
    )
    with caplog.at_level(logging.WARNING), mlflow_run(store, tmp_path, DATA):
        listener = TrainingLog(dev, tmp_path)
        for name in ("log_metrics", "log_artifact"):
            monkeypatch.setattr(mlflow, name, fail_with(failure))
        for step in (1, 2):
            listener.on_step(StepReport("frozen", step, 2, step, 1.0, 1e-3, 0.0))
        listener.on_epoch(epoch)
    assert len(caplog.messages) == 1
    assert "which goes on" in caplog.messages[0]
    assert (tmp_path / "samples.html").exists()


def test_steps_do_not_ask_a_store_that_is_away_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(_: dict[str, float], *, step: int) -> None:
        asked.append(step)
        raise MlflowException("the server is away")

    monkeypatch.setattr(mlflow, "log_metrics", refuse)
    listener = TrainingLog(make_shards(tmp_path / "dev", images=1), tmp_path)
    for step in (1, 2, 3):
        listener.on_step(StepReport("frozen", step, 3, step, 1.0, 1e-3, 0.0))
    assert asked == [1]


def test_a_run_that_cannot_be_closed_does_not_hide_why_the_training_ended(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> None:
        with mlflow_run(store, tmp_path, DATA):
            mlflow.end_run()
            monkeypatch.setattr(mlflow, "end_run", fail_with(FAILURES[0]))
            log_artifact(tmp_path / "nothing")
            raise BrokenOff

    with pytest.raises(BrokenOff):
        train()
