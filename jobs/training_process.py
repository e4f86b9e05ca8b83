"""Trains on JAX, in a process of its own: `--trainer jax`."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from conf import errors
from conf.errors import CaptionlakeError, EnvironmentFault
from models.tokenizer import Tokenizer
from models.training.accelerated.request import TrainingRequest
from models.training.reports import EpochReport, Listener, StepReport

if TYPE_CHECKING:
    from models.captioner import Captioner

MODULE = "models.training.accelerated"
LOG = "trainer.log"
POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
"""How long a pass may take to end; then its process is killed, and the pass is done again later."""
log = logging.getLogger("captionlake")


def leave_gpus_alone() -> None:
    """Keep TensorFlow, in this process, from the cards that the other one trains on."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


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
        CaptionlakeError: what that process raised.
    """
    from models.training.weights import BEST, save_weights_whole

    if find_spec("jax") is None:
        raise EnvironmentFault(
            "--trainer jax needs JAX.",
            remedy="Run `pip install -c constraints.txt .[jax]`, for a GPU jax[cuda12] too.",
        )
    request.directory.mkdir(parents=True, exist_ok=True)
    save_weights_whole(model, request.initial_weights)
    tokenizer.save(request.tokenizer)
    request.write()
    printed = request.directory / LOG
    with printed.open("ab") as file, _trainer(request.directory, file, is_stopping) as process:
        failure = _follow(process.stdout or (), listener)
    if is_stopping():
        return
    if failure is not None:
        raise failure
    if process.returncode:
        raise EnvironmentFault(
            f"The process that trained ended with code {process.returncode}.",
            remedy=f"See {printed}; started again, the training goes on after its last pass.",
        )
    best = request.directory / BEST
    if best.exists():  # as soon as there is a phase
        model.load_weights(str(best))


@contextmanager
def _trainer(
    directory: Path, printed: IO[bytes], is_stopping: Callable[[], bool]
) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, str(directory)],
        stdout=subprocess.PIPE,
        stderr=printed,
        stdin=subprocess.PIPE,  # closes with this process, which ends that one
        text=True,
        env=environment,
    )
    over = threading.Event()

    def pass_on_the_stop() -> None:
        while not over.wait(POLL_SECONDS):
            if is_stopping():
                process.terminate()
                if not over.wait(STOP_SECONDS):
                    process.kill()
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


def _follow(lines: Iterable[str], listener: Listener) -> CaptionlakeError | None:
    """Hand on what the process tells; return the error that ended it, if it named one."""
    failure = None
    for text in lines:
        line = _parse(text)
        if "device" in line:
            _tell_device(line["device"])
        elif "step" in line:
            listener.on_step(StepReport(**line["step"]))
        elif "epoch" in line:
            listener.on_epoch(EpochReport(**line["epoch"]))
        elif "error" in line:
            failure = getattr(errors, line["error"])(line["message"], remedy=line["remedy"])
    return failure


def _tell_device(name: str) -> None:
    log.info("Training on %s", name)
    if name == "cpu":
        log.warning(
            "JAX finds no GPU here, and on a CPU this trainer is the slower one: "
            "stop it for --trainer tensorflow, or install jax[cuda12]."
        )


def _parse(text: str) -> dict[str, Any]:
    """Read a line; one that a kill has cut tells nothing."""
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return line
