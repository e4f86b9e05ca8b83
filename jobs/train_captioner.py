"""Train a caption model on one's own photographs: `./spark-submit.sh train_captioner`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from conf.errors import UsageError
from conf.resolve import Resolved
from conf.training import TrainSettings
from jobs.cli import required, run_command
from jobs.session import session
from jobs.stopping import Stop
from jobs.training_folders import SKIPPED, TRAINING, refuse_folders
from jobs.training_log import TrainingLog, log_artifact, mlflow_run
from jobs.training_measure import measure_model, measure_served
from jobs.training_model import (
    build,
    in_full_precision,
    parameters_of,
    plan_of,
    print_result,
    register_and_gate,
    write_trained,
)
from jobs.training_process import leave_gpus_alone, train_on_jax
from jobs.training_shards import TrainingData, make_shards, open_shards
from models.package import ModelPackage, open_package
from models.registry import resolve_model
from models.tokenizer import Tokenizer, split_words
from models.training.accelerated.request import TrainingRequest
from storage.excluded import NOTHING, Exclusions
from storage.exclusions import ExclusionList
from storage.lake import open_existing_lake
from storage.paths import qualify

if TYPE_CHECKING:
    from models.captioner import Captioner

JOB = "train_captioner"
log = logging.getLogger("captionlake")
DESCRIPTION = """\
Train a caption model on photographs and captions, and write it as a model package.

Three phases: the decoder over a frozen encoder, then the encoder's top too, then self-critical
training on CIDEr. The best weights on the dev photographs win. Started again with the same
options after a kill, it goes on where it was. The package is registered in MLflow, and becomes
champion if it beats the champion on the same dev photographs by --gate-margin.

exit codes: 0 done, 2 usage, 3 input, 4 model, 6 environment, 143 terminated
"""


def main(resolved: Resolved[TrainSettings], stop: Stop) -> None:
    """Run the job from photographs to a registered package."""
    settings = resolved.settings
    required(settings, "output")
    refuse_remote(settings)
    refuse_folders(Path(str(settings.output)), work_of(settings))
    initial = find_initial(settings)
    refuse_untrained(settings, initial)
    image_size = size_of(settings, initial)
    data = prepare(resolved, stop, image_size=image_size)
    stop.check()
    train(settings, data, initial, stop)


def prepare(resolved: Resolved[TrainSettings], stop: Stop, *, image_size: int) -> TrainingData:
    """Return finished shards; a session is started only where it takes one to know or make them."""
    settings, environment = resolved.settings, resolved.environment
    work = work_of(settings)
    if settings.exclusions is None and (data := open_shards(work, settings, image_size=image_size)):
        return data
    with session(JOB, environment, stop) as spark:
        exclusions = exclusions_of(spark, settings, env_local=environment.is_local)
        found = open_shards(work, settings, image_size=image_size, exclusions=exclusions)
        return found or make_shards(
            spark,
            settings,
            work,
            image_size=image_size,
            env_local=environment.is_local,
            exclusions=exclusions,
        )


def exclusions_of(spark: SparkSession, settings: TrainSettings, *, env_local: bool) -> Exclusions:
    """Return what was withdrawn from the lake that `--exclusions` names."""
    if settings.exclusions is None:
        return NOTHING
    lake = open_existing_lake(spark, qualify(spark, settings.exclusions, env_local=env_local))
    return ExclusionList(spark, lake.exclusions_uri).now()


def refuse_remote(settings: TrainSettings) -> None:
    """Raise UsageError unless output and work are folders of this machine."""
    for option, value in (("--output", settings.output), ("--work", settings.work)):
        if value is not None and "://" in value:
            raise UsageError(
                f"{option} {value} isn't a local folder.",
                remedy="The package reaches other machines through the registry.",
            )


def refuse_untrained(settings: TrainSettings, initial: ModelPackage | None) -> None:
    """Raise UsageError where no phase would teach a new network anything."""
    if initial is None and not plan_of(settings).phases:
        raise UsageError(
            "All phases have 0 epochs, so the network would stay untrained.",
            remedy="Raise --frozen-epochs, or give --initial-model.",
        )


def work_of(settings: TrainSettings) -> Path:
    """Return where shards, features and checkpoints lie."""
    return Path(settings.work or f"{str(settings.output).rstrip('/')}-work")


def find_initial(settings: TrainSettings) -> ModelPackage | None:
    """Return the package to go on from, if one is named."""
    if settings.initial_model is None:
        return None
    return open_package(resolve_model(settings.initial_model, tracking_uri=settings.tracking_uri))


def size_of(settings: TrainSettings, initial: ModelPackage | None) -> int:
    """Return the side of the square that photographs are resized to.

    Raises UsageError for one that the encoder can't take.
    """
    from models.encoders import ENCODERS

    if initial is not None:
        return initial.config.image_size
    encoder = ENCODERS[settings.encoder]
    size = settings.image_size or encoder.image_size
    if size < encoder.least_size:
        raise UsageError(
            f"--image-size {size} is too small for --encoder {settings.encoder}.",
            remedy=f"Its least size is {encoder.least_size}; 0 is its own.",
        )
    return size


def train(
    settings: TrainSettings, data: TrainingData, initial: ModelPackage | None, stop: Stop
) -> None:
    """Train over shards, then measure, package and register."""
    work = work_of(settings)
    if settings.trainer == "jax":
        leave_gpus_alone()
    tokenizer, model = build(settings, data, initial)
    tell_cut(data.train.captions, most_words=model.config.max_length - 2)
    with mlflow_run(settings.tracking_uri, work, parameters_of(settings, data)) as run_id:
        log_artifact(work / SKIPPED)
        learn(settings, data, model, tokenizer, starts_trained=initial is not None, stop=stop)
        stop.check()
        model = in_full_precision(model)
        measured = measure_model(
            model, tokenizer, data.dev, beam_width=settings.beam_width, check=stop.check
        )
        stop.check()
        package = write_trained(
            settings, data, model, tokenizer, measured, run_id=run_id, initial=initial
        )
        served = measure_served(package, data.dev, beam_width=settings.beam_width, check=stop.check)
        print_result(package, measured, served, data)
        if settings.register_model:
            register_and_gate(settings, package, served, data.dev, run_id=run_id)


def tell_cut(captions: Sequence[Sequence[str]], *, most_words: int) -> None:
    """Tell how many captions are learnt without their last words, if any."""
    lengths = [len(split_words(text)) for texts in captions for text in texts]
    cut = sum(length > most_words for length in lengths)
    if cut:
        log.warning(
            "%d of %d captions have more than %d words, and their ends are not learnt: "
            "--max-length %d would hold the longest.",
            cut,
            len(lengths),
            most_words,
            max(lengths) + 2,
        )


def learn(
    settings: TrainSettings,
    data: TrainingData,
    model: Captioner,
    tokenizer: Tokenizer,
    *,
    starts_trained: bool,
    stop: Stop,
) -> None:
    """Leave the model with the best weights, or a checkpoint behind when asked to stop."""
    directory, plan = work_of(settings) / TRAINING, plan_of(settings)
    listener = TrainingLog(data.dev, work_of(settings))
    if settings.trainer == "jax":
        request = TrainingRequest(
            directory,
            model.config,
            plan,
            data.train.directory,
            data.dev.directory,
            starts_trained=starts_trained,
            mixed_precision=settings.mixed_precision,
        )
        train_on_jax(
            model, tokenizer, request, listener=listener, is_stopping=lambda: stop.is_asked
        )
        return
    from models.training.trainer import Trainer

    Trainer(
        model,
        tokenizer,
        plan=plan,
        train=data.train,
        dev=data.dev,
        directory=directory,
        listener=listener,
        starts_trained=starts_trained,
        is_stopping=lambda: stop.is_asked,
    ).run()


if __name__ == "__main__":
    sys.exit(run_command(main, TrainSettings, command=JOB, description=DESCRIPTION))
