"""What `jobs.training_process` runs: train as a request says, and tell of it line by line.

Keras chooses its backend once per process, and packaging needs TensorFlow, so JAX trains in a
process of its own. Each line of standard output is a JSON object: {"device": …} first, {"step": …}
and {"epoch": …} as in `models.training.reports`, and {"error": …, "message": …, "remedy": …} before
a failed end. Standard input is the job's hand: when it closes, this process ends at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from conf.errors import CaptionlakeError, ModelError
from models.training.accelerated.request import TrainingRequest
from models.training.reports import EpochReport, StepReport

TERMINATED = 143
ORPHANED = 129


def main(directory: Path) -> int:
    """Train by the request in a folder; return the exit code, 143 where it was stopped before."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job decides, and sends SIGTERM
    threading.Thread(target=end_with_the_job, daemon=True).start()
    teller = Teller(take_standard_output())
    try:
        is_finished = train(TrainingRequest.read(directory), teller, stop)
    except CaptionlakeError as error:
        kind = type(error).__name__
        teller.tell({"error": kind, "message": error.message, "remedy": error.remedy})
        return error.exit_code
    return 0 if is_finished else TERMINATED


def end_with_the_job() -> None:
    """Wait until the job is gone, however it went, and leave the device to the next one."""
    while os.read(0, 1):  # unlike sys.stdin's, this wait holds no lock when Python ends
        pass
    os._exit(ORPHANED)


def take_standard_output() -> IO[str]:
    """Return standard output, and let all that libraries print go to standard error."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return lines


def train(request: TrainingRequest, teller: Teller, stop: threading.Event) -> bool:
    """Train from the request's first weights; return whether all phases are over."""
    import jax
    import keras

    from models.captioner import load_captioner
    from models.runtime import is_out_of_memory
    from models.tokenizer import Tokenizer
    from models.training.accelerated.trainer import AcceleratedTrainer
    from models.training.shards import Shards

    teller.tell({"device": jax.devices()[0].device_kind})
    if request.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        progress = AcceleratedTrainer(
            load_captioner(request.config, request.initial_weights),
            Tokenizer.load(request.tokenizer),
            plan=request.plan,
            train=Shards(request.train),
            dev=Shards(request.dev),
            directory=request.directory,
            listener=teller,
            starts_trained=request.starts_trained,
            is_stopping=stop.is_set,
        ).run()
    except Exception as error:  # JAX has no class of its own for it
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            "The device ran out of memory in training.",
            remedy="Give a smaller --batch-images, or --trainer tensorflow.",
        ) from error
    return progress.phase == len(request.plan.phases)


class Teller:
    """`models.training.reports.Listener` that writes lines."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines

    def on_step(self, report: StepReport) -> None:
        """Write it."""
        self.tell({"step": report._asdict()})

    def on_epoch(self, report: EpochReport) -> None:
        """Write it."""
        self.tell({"epoch": report._asdict()})

    def tell(self, line: dict[str, Any]) -> None:
        """Write a line."""
        print(json.dumps(line), file=self._lines, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    sys.exit(main(Path(sys.argv[1])))
