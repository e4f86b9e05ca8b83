"""From pairs in Spark to pixel shards on the driver's disk, with an account of what was skipped."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from conf.errors import InputError, UsageError
from conf.training import PairSettings
from jobs.training_pairs import DEV, TRAIN, assign_splits, read_pairs, with_content, with_pixels
from models.training.shards import Example, Shards, write_shards
from storage.excluded import NOTHING, Exclusions
from storage.exclusions import is_excluded

SKIPPED = "skipped.tsv"
TRAINING = "training"
READY = "shards.json"
SHOWN = 5
# How photographs are read; what is withdrawn has a fingerprint of its own.
NOT_DATA = {"partition_files", "max_skipped_share", "exclusions"}
PARTITIONS_AT_A_TIME = 4
log = logging.getLogger("captionlake")


@dataclass(frozen=True)
class TrainingData:
    """Shards of both splits, and how many photographs and captions were left out, by reason."""

    train: Shards
    dev: Shards
    skipped: dict[str, int]


def open_shards(
    work: Path, settings: PairSettings, *, image_size: int, exclusions: Exclusions = NOTHING
) -> TrainingData | None:
    """Shards that an earlier start of the same training finished, or None.

    Those made before something else was withdrawn don't count. Raises UsageError where they were
    made of other data than the settings name; other contents under the same names go unseen.
    """
    ready = work / READY
    if not ready.is_file():
        return None
    facts = json.loads(ready.read_text(encoding="utf-8"))
    if facts["image_size"] != image_size or facts.get("exclusions", "") != exclusions.fingerprint:
        return None
    made_of, asked = facts.get("data", {}), _data_of(settings)
    if changed := [name for name in asked if asked[name] != made_of.get(name)]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(
            f"{work} holds photographs that were read with another {options}.",
            remedy="Repeat the first options, or choose another --output or --work.",
        )
    return TrainingData(Shards(work / TRAIN), Shards(work / DEV), facts["skipped"])


def make_shards(
    spark: SparkSession,
    settings: PairSettings,
    work: Path,
    *,
    image_size: int,
    env_local: bool,
    exclusions: Exclusions = NOTHING,
) -> TrainingData:
    """Read, decode and write everything; raises InputError where too much is unusable.

    What an earlier training made of other shards is deleted: it may hold what was withdrawn since.
    """
    shutil.rmtree(work / TRAINING, ignore_errors=True)
    pairs = read_pairs(spark, settings, env_local=env_local)
    chosen = assign_splits(spark, pairs.usable, settings, env_local=env_local)
    contents = with_content(spark, chosen, settings)
    if exclusions:  # without a trace in the list of what was skipped, which names files
        image_id = F.sha2("content", 256)
        contents = contents.where(~is_excluded(exclusions, image_id=image_id))
    # Kept on the executors' disks: decoding runs once, on all of them, and streams out after.
    decoded = with_pixels(contents, settings, image_size=image_size).persist(StorageLevel.DISK_ONLY)
    is_good = F.col("reason").isNull()
    broken = decoded.where(~is_good).select("name", "reason", "detail")
    skipped = _note_skipped(pairs.skipped.unionByName(broken), work)
    good = decoded.where(is_good)
    _refuse_loss(good.count(), skipped, settings, work)
    train, dev = (_write_split(good, split, work, image_size=image_size) for split in (TRAIN, DEV))
    decoded.unpersist()
    facts = {
        "image_size": image_size,
        "skipped": skipped,
        "exclusions": exclusions.fingerprint,
        "data": _data_of(settings),
    }
    (work / READY).write_text(json.dumps(facts), encoding="utf-8")
    return TrainingData(train, dev, skipped)


def _data_of(settings: PairSettings) -> dict[str, Any]:
    """What decides which photographs and captions are learnt from."""
    names = sorted(PairSettings.model_fields.keys() - NOT_DATA)
    return {name: getattr(settings, name) for name in names}


def _note_skipped(skipped: DataFrame, work: Path) -> dict[str, int]:
    """List what is skipped in a file and the first few in the log; return counts by reason."""
    work.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with (work / SKIPPED).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(["name", "reason", "detail"])
        for row in skipped.orderBy("reason", "name").toLocalIterator():
            rows.writerow(row)
            counts[row.reason] += 1
            if counts[row.reason] <= SHOWN:
                log.warning("skipped %s: %s %s", row.name, row.reason, row.detail or "")
    return dict(counts)


def _refuse_loss(usable: int, skipped: dict[str, int], settings: PairSettings, work: Path) -> None:
    lost = sum(skipped.values())
    account = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    if usable == 0:
        raise InputError(
            f"There is no photograph with a caption to train on ({account or 'nothing found'}).",
            remedy="Check that the captions name the files, and --train-split.",
        )
    if lost / (lost + usable) > settings.max_skipped_share:
        raise InputError(
            f"{lost} of {lost + usable} are unusable ({account}), listed in {work / SKIPPED}.",
            remedy="Mend the data, or raise --max-skipped-share.",
        )


def _write_split(good: DataFrame, split: str, work: Path, *, image_size: int) -> Shards:
    directory = work / split
    shutil.rmtree(directory, ignore_errors=True)
    rows = good.where(F.col("split") == split).drop("split", "reason", "detail")
    examples = _examples(stream_rows(rows), image_size)
    shards = write_shards(examples, directory, image_size=image_size)
    if not len(shards):
        raise InputError(
            f"No usable photograph is in the {split} split.",
            remedy="Check --train-split, --dev-split and --dev-share.",
        )
    return shards


def stream_rows(frame: DataFrame) -> Iterator[Row]:
    """Bring rows to the driver, a few partitions in memory at a time.

    `DataFrame.toLocalIterator` of Spark 4.2 keeps all that it has delivered in the JVM's heap.
    """
    rows = frame.rdd
    context = frame.sparkSession.sparkContext
    partitions = range(rows.getNumPartitions())
    for first in partitions[::PARTITIONS_AT_A_TIME]:
        some = partitions[first : first + PARTITIONS_AT_A_TIME]
        yield from context.runJob(rows, list, list(some))


def _examples(rows: Iterator[Row], image_size: int) -> Iterator[Example]:
    shape = (image_size, image_size, 3)
    for row in rows:
        pixels = np.frombuffer(row.pixels, np.uint8).reshape(shape)
        yield Example(row.name, pixels, row.captions)
