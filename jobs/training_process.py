"""Trains on JAX, in a process of its own: `--trainer jax`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from conf.errors import EnvironmentFault, ModelError
from models.tokenizer import Tokenizer
from models.training.accelerated.request import TrainingRequest
from models.training.reports import EpochReport, Listener, StepReport

if TYPE_CHECKING:
    from models.captioner import Captioner

MODULE = "models.training.accelerated"
LOG = "trainer.log"
POLL_SECONDS = 0.2


def train_on_jax(
    model: Captioner,
    tokenizer: Tokenizer,
    request: TrainingRequest,
    *,
    listener: Listener,
    is_stopping: Callable[[], bool],
) -> None:
    """Train a model from its present weights, and leave it with the best ones on dev.

    Ends early, with a checkpoint, when ``is_stopping``.

    Raises:
        EnvironmentFault: JAX isn't installed, or the process died; its log is named.
        ModelError: it can't train this.
    """
    from models.training.weights import BEST, save_weights_whole

    if find_spec("jax") is None:
        raise EnvironmentFault(
            "--trainer jax needs JAX.", remedy="Run `pip install jax` (jax[cuda12] for a GPU)."
        )
    request.directory.mkdir(parents=True, exist_ok=True)
    save_weights_whole(model, request.initial_weights)
    tokenizer.save(request.tokenizer)
    request.write()
    log = request.directory / LOG
    with log.open("ab") as errors, _trainer(request.directory, errors, is_stopping) as process:
        failure = _follow(process.stdout or (), listener)
    if is_stopping():
        return
    if failure is not None:
        raise failure
    if process.returncode:
        raise EnvironmentFault(
            f"The process that trained ended with code {process.returncode}.",
            remedy=f"See {log}; started again, the training goes on after its last epoch.",
        )
    best = request.directory / BEST
    if best.exists():
        model.load_weights(str(best))


@contextmanager
def _trainer(
    directory: Path, errors: IO[bytes], is_stopping: Callable[[], bool]
) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, str(directory)],
        stdout=subprocess.PIPE,
        stderr=errors,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    over = threading.Event()

    def pass_on_the_stop() -> None:
        while not over.wait(POLL_SECONDS):
            if is_stopping():
                process.terminate()
                return

    watcher = threading.Thread(target=pass_on_the_stop, daemon=True)
    watcher.start()
    try:
        yield process
        process.wait()
    finally:
        over.set()
        if process.poll() is None:
            process.kill()
            process.wait()


def _follow(lines: Iterable[str], listener: Listener) -> ModelError | None:
    """Hand on what the process tells; return the error that ended it, if it named one."""
    failure = None
    for text in lines:
        line = json.loads(text)
        if "step" in line:
            listener.on_step(StepReport(**line["step"]))
        elif "epoch" in line:
            listener.on_epoch(EpochReport(**line["epoch"]))
        else:
            failure = ModelError(line["error"], remedy=line["remedy"])
    return failure
