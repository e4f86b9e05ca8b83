"""What `jobs.training_process` runs: train as a request says, and tell of it line by line.

Keras chooses its backend once per process, and packaging needs TensorFlow, so JAX trains in a
process of its own. Each line of standard output is a JSON object: {"step": …} and {"epoch": …} as
in `models.training.reports`, or {"error": …, "remedy": …} before a failed end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from conf.errors import CaptionlakeError
from models.training.accelerated.request import TrainingRequest
from models.training.reports import EpochReport, StepReport


def main(directory: Path) -> int:
    """Train by the request in a folder; return the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job decides, and sends SIGTERM
    try:
        train(TrainingRequest.read(directory), stop)
    except CaptionlakeError as error:
        tell({"error": error.message, "remedy": error.remedy})
        return error.exit_code
    return 0


def train(request: TrainingRequest, stop: threading.Event) -> None:
    """Train from the request's first weights to the best ones, beside them."""
    import keras

    from models.captioner import load_captioner
    from models.tokenizer import Tokenizer
    from models.training.accelerated.trainer import AcceleratedTrainer
    from models.training.shards import Shards

    if request.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    AcceleratedTrainer(
        load_captioner(request.config, request.initial_weights),
        Tokenizer.load(request.tokenizer),
        plan=request.plan,
        train=Shards(request.train),
        dev=Shards(request.dev),
        directory=request.directory,
        listener=Teller(),
        starts_trained=request.starts_trained,
        is_stopping=stop.is_set,
    ).run()


class Teller:
    """`models.training.reports.Listener` that writes lines."""

    def on_step(self, report: StepReport) -> None:
        """Write it."""
        tell({"step": report._asdict()})

    def on_epoch(self, report: EpochReport) -> None:
        """Write it."""
        tell({"epoch": report._asdict()})


def tell(line: dict[str, Any]) -> None:
    """Write a line; the job that reads them may be gone, and then this process ends too."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    sys.exit(main(Path(sys.argv[1])))
