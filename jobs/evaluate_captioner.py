"""Score a model's captions of photographs against people's captions: `evaluate_captioner`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.errors import InputError
from conf.evaluation import EvaluateSettings
from conf.resolve import Resolved
from jobs.chunks import Chunk
from jobs.cli import required, run_command
from jobs.evaluation_data import References, read_references
from jobs.evaluation_page import refuse_page, write_page
from jobs.evaluation_report import Evaluated, log_evaluation, log_page, print_evaluation
from jobs.image_memory import ImageMemory
from jobs.inference import inference_of
from jobs.session import session
from jobs.shipping import ship_package
from jobs.stopping import Stop
from models.metrics import score_captions, split_by_stanford
from models.package import open_package
from models.registry import resolve_model
from models.runtime import refuse_misfit
from udfs.outcome import CAPTIONED

JOB = "evaluate_captioner"
DESCRIPTION = """\
Caption photographs that people have captioned, and score the captions against theirs.

Figures are those of pycocoevalcap: BLEU-1 to 4, ROUGE-L and CIDEr, and METEOR where its Java part
runs, on words split by the scorers' own PTB tokenizer. SPICE is left out: its Java part needs a
download of its own. Photographs are read, decoded and captioned by the code that serves. The result
goes to the terminal, an MLflow run and an HTML page.
"""


@dataclass(frozen=True)
class Captioned:
    """What the pipeline made of the photographs, in the references' order, and how fast."""

    outcomes: pa.Table
    images_per_second: float


def main(resolved: Resolved[EvaluateSettings], stop: Stop) -> None:
    """Run the job from its settings to its report."""
    settings = resolved.settings
    required(settings, "images", "captions")
    refuse_misfit(settings.runtime, settings.precision, device=settings.device)
    page = Path(settings.page)
    refuse_page(page)
    package = open_package(resolve_model(settings.model, tracking_uri=settings.tracking_uri))
    with session(JOB, resolved.environment, stop) as spark:
        references = read_references(spark, settings, env_local=resolved.environment.is_local)
        stop.check()
        archive = ship_package(spark, package)
        captioned = caption_all(spark, settings, references, archive=archive)
        evaluated = evaluate(captioned, references)
        # The figures took hours; the page may fail for a disk that is full by now.
        print_evaluation(evaluated, settings, package)
        run_id = log_evaluation(evaluated, settings, package)
        write_page(page, evaluated, count=settings.page_photographs, spark=spark)
    log_page(page, run_id=run_id)
    print(f"Page: {page}")


def caption_all(
    spark: SparkSession, settings: EvaluateSettings, references: References, *, archive: str
) -> Captioned:
    """Caption every photograph once; nothing is known before and nothing is kept."""
    paths = references.files.column("path").to_pylist()
    inference = inference_of(
        spark, settings, paths, archive=archive, memory=ImageMemory(spark.sparkContext)
    )
    started = time.perf_counter()
    outcomes = inference.outcomes(Chunk(references.files))
    return Captioned(outcomes, len(paths) / (time.perf_counter() - started))


def evaluate(captioned: Captioned, references: References) -> Evaluated:
    """Score what was captioned; raises InputError if nothing was."""
    is_captioned = pc.equal(captioned.outcomes.column("status"), CAPTIONED)
    good = captioned.outcomes.filter(is_captioned).sort_by("path")
    bad = captioned.outcomes.filter(pc.invert(is_captioned))
    if good.num_rows == 0:
        raise InputError("None of the photographs could be captioned.", remedy="Check --images.")
    paths, captions = good.column("path").to_pylist(), good.column("caption").to_pylist()
    known = [references.captions_of[path] for path in paths]
    return Evaluated(
        paths=paths,
        captions=captions,
        references=known,
        scored=score_captions(captions, known, split=split_by_stanford, with_meteor=True),
        rejected={row["path"]: row["reason"] for row in bad.to_pylist()},
        without_image=references.without_image,
        without_caption=references.without_caption,
        named_in_vain=references.named_in_vain,
        images_per_second=captioned.images_per_second,
    )


if __name__ == "__main__":
    sys.exit(run_command(main, EvaluateSettings, command=JOB, description=DESCRIPTION))
