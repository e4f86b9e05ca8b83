"""The photographs of an evaluation with what people said of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.errors import InputError
from conf.evaluation import EvaluateSettings
from storage.hadoop import reported_as
from storage.listing import list_files
from storage.paths import qualify

log = logging.getLogger("captionlake")
_HOW_NAMES_ARE_WRITTEN = "Names must be written as the files are called, with extension."


@dataclass(frozen=True)
class References:
    """Photographs that have captions.

    Attributes:
        files: their rows of the listing.
        captions_of: captions by path.
        without_image: names that have captions and no photograph.
        without_caption: photographs left out because nobody captioned them; with `--names`, which
            leaves out others too, it is 0.
        named_in_vain: what `--names` asks for and nobody captioned.
    """

    files: pa.Table
    captions_of: dict[str, list[str]]
    without_image: list[str]
    without_caption: int
    named_in_vain: list[str]


def read_references(
    spark: SparkSession, settings: EvaluateSettings, *, env_local: bool
) -> References:
    """Bring photographs and captions together by file name.

    Raises:
        InputError: one of them is missing or empty, a name occurs twice, or none has captions.
    """
    listing = list_files(spark, qualify(spark, str(settings.images), env_local=env_local))
    known = _captions_by_name(spark, settings, env_local=env_local)
    names = _chosen_names(spark, settings, env_local=env_local)
    wanted = known if names is None else _named(known, names, settings)
    captions_of = _captions_by_path(listing, wanted, settings)
    is_wanted = pc.is_in(listing.column("path"), pa.array(list(captions_of)))
    return References(
        files=listing.filter(is_wanted),
        captions_of=captions_of,
        without_image=sorted(wanted.keys() - {_name_of(path) for path in captions_of}),
        without_caption=0 if names is not None else listing.num_rows - len(captions_of),
        named_in_vain=sorted((names or set()) - known.keys()),
    )


def _named(
    known: dict[str, list[str]], names: set[str], settings: EvaluateSettings
) -> dict[str, list[str]]:
    wanted = {name: known[name] for name in names if name in known}
    if not wanted:
        raise InputError(
            f"None of the {len(names)} names of {settings.names}, such as {min(names)}, has a "
            f"caption in {settings.captions}.",
            remedy=_HOW_NAMES_ARE_WRITTEN,
        )
    return wanted


def _captions_by_path(
    listing: pa.Table, wanted: dict[str, list[str]], settings: EvaluateSettings
) -> dict[str, list[str]]:
    paths = listing.column("path").to_pylist()
    captions_of = {path: wanted[name] for path in paths if (name := _name_of(path)) in wanted}
    names = [_name_of(path) for path in captions_of]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"The name {twice} occurs twice below {settings.images}, so its captions are of one.",
            remedy="Evaluate on one folder of distinct names.",
        )
    if not captions_of:
        raise InputError(
            f"No photograph below {settings.images} has a caption in {settings.captions}.",
            remedy=_HOW_NAMES_ARE_WRITTEN,
        )
    return captions_of


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]


def _captions_by_name(
    spark: SparkSession, settings: EvaluateSettings, *, env_local: bool
) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = defaultdict(list)
    senseless = 0
    for line in _lines(spark, str(settings.captions), option="--captions", env_local=env_local):
        name, _, caption = line.partition("\t")
        if caption.strip():
            captions[name.strip()].append(caption.strip())
        elif line.strip():
            senseless += 1
    if senseless:
        log.warning(
            "%d lines of %s aren't a name, a tab and a caption, and are left out.",
            senseless,
            settings.captions,
        )
    return dict(captions)


def _chosen_names(
    spark: SparkSession, settings: EvaluateSettings, *, env_local: bool
) -> set[str] | None:
    """The names of `--names`, or None without it."""
    if settings.names is None:
        return None
    lines = _lines(spark, settings.names, option="--names", env_local=env_local)
    names = {name for line in lines if (name := line.strip())}
    if not names:
        raise InputError(f"{settings.names} names nothing.", remedy="Check --names.")
    return names


def _lines(spark: SparkSession, uri: str, *, option: str, env_local: bool) -> list[str]:
    path = qualify(spark, uri, env_local=env_local)
    with reported_as(InputError, f"Can't read {path}", remedy=f"Check {option}."):
        lines = [str(row.value) for row in spark.read.text(path).collect()]
    if not lines:
        raise InputError(f"{path} is empty.", remedy=f"Check {option}.")
    return lines
