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
from jobs.training_folders import READY, SKIPPED, SKIPPED_COLUMNS, TRAINING, claim_work
from jobs.training_pairs import DEV, TRAIN, read_pairs, with_content, with_pixels
from jobs.training_splits import Chosen, assign_splits
from jobs.training_unread import refuse_outage, tell_unread
from models.training.shards import Example, Shards, write_shards
from models.training.whole import written_whole
from storage.excluded import NOTHING, Exclusions
from storage.exclusions import is_excluded

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


@dataclass(frozen=True)
class Tally:
    """What became of everything that was asked for; `--limit` lets only a sample be decoded."""

    unpaired: int
    paired: int
    broken: int
    good: int

    @property
    def total(self) -> int:
        """What there is, whatever the limit."""
        return self.unpaired + self.paired

    @property
    def lost(self) -> int:
        """What is unusable of it, where the rest is as often broken as the sample."""
        return self.unpaired + round(self.paired * self.broken / (self.broken + self.good))


def open_shards(
    work: Path, settings: PairSettings, *, image_size: int, exclusions: Exclusions = NOTHING
) -> TrainingData | None:
    """Shards that an earlier start of the same training finished, or None.

    Those made before something else was withdrawn don't count. Raises UsageError where they were
    made of other data than the settings name, or of another size; other contents under the same
    names go unseen.
    """
    facts = _read_facts(work)
    if facts is None:
        return None
    _refuse_others(facts, settings, work, image_size=image_size)
    if facts.get("exclusions", "") != exclusions.fingerprint:
        return None
    try:
        return TrainingData(Shards(work / TRAIN), Shards(work / DEV), facts["skipped"])
    except InputError:  # a folder is gone or half made: they are made anew
        return None


def _read_facts(work: Path) -> dict[str, Any] | None:
    """What is known of finished shards; a file that a kill cut short says nothing."""
    try:
        facts: dict[str, Any] = json.loads((work / READY).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return facts


def _refuse_others(
    facts: dict[str, Any], settings: PairSettings, work: Path, *, image_size: int
) -> None:
    """Raise UsageError where making the shards that are asked for would end another training."""
    made_of, asked = facts.get("data", {}), _data_of(settings)
    if changed := [name for name in asked if asked[name] != made_of.get(name)]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(
            f"{work} holds photographs that were read with another {options}.",
            remedy="Repeat the first options, or choose another --output or --work.",
        )
    if (side := facts["image_size"]) != image_size:
        raise UsageError(
            f"{work} holds photographs of {side} pixels a side, and {image_size} are asked for.",
            remedy="Repeat the first --encoder, --image-size or --initial-model, or choose another "
            "--output or --work.",
        )


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
    claim_work(work)
    # First of all: from here on nothing in the folder is finished.
    (work / READY).unlink(missing_ok=True)
    shutil.rmtree(work / TRAINING, ignore_errors=True)
    pairs = read_pairs(spark, settings, env_local=env_local)
    chosen = assign_splits(spark, pairs, settings, env_local=env_local)
    contents = with_content(spark, chosen.pairs, settings)
    if exclusions:  # without a trace in the list of what was skipped, which names files
        image_id = F.sha2("content", 256)
        contents = contents.where(~is_excluded(exclusions, image_id=image_id))
    # Kept on the executors' disks: decoding runs once, on all of them, and streams out after.
    decoded = with_pixels(contents, settings, image_size=image_size).persist(StorageLevel.DISK_ONLY)
    skipped = _account_for(decoded, chosen, settings, work)
    good = decoded.where(F.col("reason").isNull())
    train, dev = (_write_split(good, split, work, image_size=image_size) for split in (TRAIN, DEV))
    decoded.unpersist()
    facts = {
        "image_size": image_size,
        "skipped": skipped,
        "exclusions": exclusions.fingerprint,
        "data": _data_of(settings),
    }
    with written_whole(work / READY) as partial:
        partial.write_text(json.dumps(facts), encoding="utf-8")
    return TrainingData(train, dev, skipped)


def _account_for(
    decoded: DataFrame, chosen: Chosen, settings: PairSettings, work: Path
) -> dict[str, int]:
    """List and count what is skipped; raises InputError where it is too much.

    Raises EnvironmentFault where so many couldn't be read that the storage must be failing.
    """
    is_good = F.col("reason").isNull()
    broken = tell_unread(decoded.where(~is_good), max_file_bytes=settings.max_file_bytes)
    skipped = _note_skipped(chosen.skipped.unionByName(broken), work)
    good, bad = decoded.where(is_good).count(), broken.count()
    refuse_outage(broken, files=good + bad)
    paired = chosen.all_pairs.count() if settings.limit else good + bad
    tally = Tally(sum(skipped.values()) - bad, paired=paired, broken=bad, good=good)
    _refuse_loss(tally, skipped, settings, work)
    return skipped


def _data_of(settings: PairSettings) -> dict[str, Any]:
    """What decides which photographs and captions are learnt from."""
    names = sorted(PairSettings.model_fields.keys() - NOT_DATA)
    return {name: getattr(settings, name) for name in names}


def _note_skipped(skipped: DataFrame, work: Path) -> dict[str, int]:
    """List what is skipped in a file and the first few in the log; return counts by reason."""
    counts: Counter[str] = Counter()
    with (work / SKIPPED).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(SKIPPED_COLUMNS)
        for row in skipped.orderBy("reason", "name").toLocalIterator():
            rows.writerow(row)
            counts[row.reason] += 1
            if counts[row.reason] <= SHOWN:
                log.warning("skipped %s: %s %s", row.name, row.reason, row.detail or "")
    return dict(counts)


def _refuse_loss(tally: Tally, skipped: dict[str, int], settings: PairSettings, work: Path) -> None:
    account = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    if tally.good == 0:
        raise InputError(
            f"There is no photograph with a caption to train on ({account or 'nothing found'}).",
            remedy="Check that the captions name the files, and --train-split.",
        )
    if tally.lost / tally.total > settings.max_skipped_share:
        about = "About " if settings.limit else ""
        raise InputError(
            f"{about}{tally.lost} of {tally.total} are unusable ({account}), "
            f"listed in {work / SKIPPED}.",
            remedy="Mend the data, or raise --max-skipped-share.",
        )


def _write_split(good: DataFrame, split: str, work: Path, *, image_size: int) -> Shards:
    directory = work / split
    shutil.rmtree(directory, ignore_errors=True)
    rows = good.where(F.col("split") == split).select("name", "pixels", "captions")
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
