"""From settings to a network, and from a trained network to a registered package."""

from __future__ import annotations

import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conf.training import TrainSettings
from conf.version import VERSION
from jobs.cli import redact, to_keep
from jobs.training_card import model_card
from jobs.training_measure import Measured, measure_served
from jobs.training_shards import TrainingData
from models.gate import Measurement, Verdict
from models.metrics import CaptionFigures
from models.package import WEIGHTS, ModelPackage
from models.registry import promote_if_better, register
from models.tokenizer import Tokenizer
from models.training.plan import Phase, TrainingPlan
from models.training.shards import Shards

if TYPE_CHECKING:
    from models.captioner import Captioner

CALIBRATION_IMAGES = 300
SERVED_PRECISION = "int8"  # what `measure_served` loads
# They change where a training runs or what becomes of it, not what it learns.
_NOT_PARAMETERS = {"tracking_uri", "output", "work", "register_model", "gate_margin"}
log = logging.getLogger("captionlake")


def plan_of(settings: TrainSettings) -> TrainingPlan:
    """Return the phases that have epochs, and what they share."""
    phases = (
        Phase(
            "frozen",
            epochs=settings.frozen_epochs,
            learning_rate=settings.frozen_rate,
            warmup_steps=200,
        ),
        Phase(
            "finetune",
            epochs=settings.finetune_epochs,
            learning_rate=settings.finetune_rate,
            warmup_steps=100,
        ),
        Phase(
            "self_critical",
            epochs=settings.self_critical_epochs,
            learning_rate=settings.self_critical_rate,
            warmup_steps=50,
        ),
    )
    shared = {name: getattr(settings, name) for name in ("batch_images", "patience", "samples")}
    fields = (
        *("seed", "views", "tuned_share", "encoder_rate"),
        *("beam_width", "checkpoint_steps", "mirror"),
    )
    return TrainingPlan(
        phases=tuple(Phase(**{**asdict(phase), **shared}) for phase in phases if phase.epochs),
        **{name: getattr(settings, name) for name in fields},
    )


def build(
    settings: TrainSettings, data: TrainingData, initial: ModelPackage | None
) -> tuple[Tokenizer, Captioner]:
    """Return words and network: those of the initial package, or new ones."""
    import keras

    from models.captioner import Captioner, CaptionerConfig, load_captioner

    keras.utils.set_random_seed(settings.seed)
    if settings.mixed_precision and settings.trainer == "tensorflow":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if initial is not None:
        config = CaptionerConfig(**{**initial.config.captioner, "dropout": settings.dropout})
        return initial.tokenizer, load_captioner(config, initial.file(WEIGHTS))
    captions = (text for captions in data.train.captions for text in captions)
    tokenizer = Tokenizer.from_captions(captions, min_count=settings.min_word_count)
    fields = ("encoder", "max_length", "width", "depth", "heads", "ffn", "grid_depth", "dropout")
    config = CaptionerConfig(
        image_size=data.train.image_size,
        vocabulary_size=tokenizer.vocabulary_size,
        **{name: getattr(settings, name) for name in fields},
    )
    weights = None if settings.encoder_weights == "none" else settings.encoder_weights
    return tokenizer, Captioner(config, encoder_weights=weights)


def in_full_precision(model: Captioner) -> Captioner:
    """Return the network in float32, as it is measured and exported, whatever it was trained in."""
    import keras

    from models.captioner import Captioner

    if model.compute_dtype == "float32":
        return model
    keras.mixed_precision.set_global_policy("float32")
    whole = Captioner(model.config)
    whole.set_weights(model.get_weights())
    return whole


def parameters_of(settings: TrainSettings, data: TrainingData) -> dict[str, Any]:
    """Return what an MLflow run is compared by: settings, data fingerprints, code version."""
    return to_keep(settings, without=_NOT_PARAMETERS) | lineage_of(data)


def lineage_of(data: TrainingData) -> dict[str, Any]:
    """Return what a model was made from."""
    return {
        "code_version": VERSION,
        "train_photographs": len(data.train),
        "train_fingerprint": data.train.fingerprint,
        "dev_photographs": len(data.dev),
        "dev_fingerprint": data.dev.fingerprint,
        "skipped": data.skipped,
    }


def write_trained(
    settings: TrainSettings,
    data: TrainingData,
    model: Captioner,
    tokenizer: Tokenizer,
    measured: Measured,
    *,
    run_id: str,
    initial: ModelPackage | None,
) -> ModelPackage:
    """Write the package, int8 calibrated on training photographs, with its card and lineage.

    ``initial`` is the package that was trained on, whose terms hold for what comes of it too.
    """
    from models.packaging import write_package

    rows = np.linspace(0, len(data.train) - 1, min(CALIBRATION_IMAGES, len(data.train)))
    lineage = lineage_of(data) | {"mlflow_run": run_id}
    if initial is not None:
        lineage["initial_model"] = initial.version
    encoder = model.config.encoder
    return write_package(
        Path(str(settings.output)),
        model,
        tokenizer=tokenizer,
        model_card=model_card(settings, measured, lineage, encoder=encoder, initial=initial),
        calibration=data.train.pixels.take(rows.astype(int)),
        name=settings.name,
        decoding=measured.decoding,
        lineage=lineage,
    )


def print_result(
    package: ModelPackage, measured: Measured, served: CaptionFigures, data: TrainingData
) -> None:
    """Tell a person what came out."""
    beam, greedy = measured.beam, measured.greedy
    print(f"\nModel package {package.directory}, version {package.version[:16]}")
    print(f"Trained on {len(data.train)} photographs, chosen on {len(data.dev)}.")
    print(
        f"Dev, beam {measured.beam_width}: CIDEr {beam.cider:.3f}, BLEU-4 {beam.bleu_4:.3f}; "
        f"greedy: CIDEr {greedy.cider:.3f}, BLEU-4 {greedy.bleu_4:.3f}"
    )
    print(
        f"As served, in int8, beam {measured.beam_width}: "
        f"CIDEr {served.cider:.3f}, BLEU-4 {served.bleu_4:.3f}"
    )
    for name, caption in zip(data.dev.names[:5], measured.captions, strict=False):
        print(f"  {name}: {caption}")


def register_and_gate(
    settings: TrainSettings,
    package: ModelPackage,
    served: CaptionFigures,
    dev: Shards,
    *,
    run_id: str,
) -> None:
    """Register a version; it becomes champion only if it beats the champion by the margin."""
    beam_width, name, store = settings.beam_width, settings.name, settings.tracking_uri
    number = register(
        package,
        figures=served.as_dict(),
        measurement=Measurement(dev.fingerprint, beam_width, SERVED_PRECISION),
        run_id=run_id,
        name=name,
        tracking_uri=store,
    )
    verdict = promote_if_better(
        number,
        margin=settings.gate_margin,
        measure=lambda champion: measure_served(champion, dev, beam_width=beam_width).as_dict(),
        name=name,
        tracking_uri=store,
    )
    print_verdict(number, verdict, settings)


def print_verdict(number: int, verdict: Verdict, settings: TrainSettings) -> None:
    """Tell what became of the new version, and what is left to do where nobody could tell."""
    if verdict.is_champion:
        print(f"Version {number} of {settings.name} is champion now.")
    elif verdict.obstacle is None:
        print(f"Version {number} of {settings.name} did not beat the champion, which stays.")
    else:
        options = [f"--action promote --version {number} --name {shlex.quote(settings.name)}"]
        if settings.tracking_uri is not None:
            options.append(f"--tracking-uri {shlex.quote(redact(settings.tracking_uri))}")
        print(
            f"Version {number} of {settings.name} can't be compared with the champion, which "
            f"stays: {redact(verdict.obstacle)}\n"
            f"To promote it all the same: ./spark-submit.sh manage_models {' '.join(options)}"
        )
