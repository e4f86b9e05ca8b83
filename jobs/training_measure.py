"""How good a trained network is, and how good the package that serves it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.decoding import DecodingParameters
from models.image_pixels import squash
from models.metrics import CaptionFigures, score_captions, split_by_rules
from models.package import ModelPackage
from models.runtime import load_runtime
from models.tokenizer import Tokenizer
from models.training.shards import Shards

if TYPE_CHECKING:
    from models.captioner import Captioner

LENGTH_PENALTIES = (0.4, 0.7, 1.0, 1.3)
IMAGES_AT_ONCE = 64  # for each thread


@dataclass(frozen=True)
class Measured:
    """How a network in float32 does on dev: with the training's beam, and greedy."""

    beam: CaptionFigures
    greedy: CaptionFigures
    beam_width: int
    captions: list[str]
    """With the beam, in the order of dev."""
    decoding: DecodingParameters
    """What the package decodes with by default: greedy, and this length penalty in a beam."""


def measure_model(
    model: Captioner,
    tokenizer: Tokenizer,
    dev: Shards,
    *,
    beam_width: int,
    check: Callable[[], None] = lambda: None,
) -> Measured:
    """Caption and score dev with the network as it is, at the length penalty that suits it.

    ``check`` is called every few photographs and may raise, as `Stop.check` does.
    """
    greedy, by_penalty = _caption(model, tokenizer, dev, beam_width=beam_width, check=check)
    found = [(_figures(captions, dev), penalty) for penalty, captions in by_penalty.items()]
    beam, penalty = max(found, key=lambda one: one[0].cider)
    captions = by_penalty[penalty]
    decoding = DecodingParameters(length_penalty=penalty)
    return Measured(beam, _figures(greedy, dev), beam_width, captions, decoding)


def _caption(
    model: Captioner,
    tokenizer: Tokenizer,
    dev: Shards,
    *,
    beam_width: int,
    check: Callable[[], None],
) -> tuple[list[str], dict[float, list[str]]]:
    """Captions of dev, greedy and by length penalty; features of a few in memory at a time."""
    from models.training.evaluation import DevCaptioner, encode_shards

    greedy_search = DevCaptioner(model, tokenizer, beam_width=1)
    beam_search = DevCaptioner(model, tokenizer, beam_width=beam_width)
    greedy = list[str]()
    by_penalty: dict[float, list[str]] = {penalty: [] for penalty in LENGTH_PENALTIES}
    for features in encode_shards(model, dev):
        check()
        greedy += greedy_search.caption(features)
        for penalty, captions in by_penalty.items():
            check()
            captions.extend(beam_search.caption(features, length_penalty=penalty))
    return greedy, by_penalty


def _figures(captions: list[str], dev: Shards) -> CaptionFigures:
    return score_captions(captions, dev.captions, split=split_by_rules).figures


def measure_served(
    package: ModelPackage, dev: Shards, *, beam_width: int, check: Callable[[], None] = lambda: None
) -> CaptionFigures:
    """Caption and score dev by what serves: OpenVINO in int8, and the package's own decoding.

    Photographs are resized for a package of another image size, say an earlier champion. ``check``
    is called every few photographs and may raise.
    """
    side, captions = package.config.image_size, list[str]()
    threads = len(os.sched_getaffinity(0))
    runtime = load_runtime(package, beam_width=beam_width, threads=threads)
    at_once = IMAGES_AT_ONCE * threads
    for rows in np.split(np.arange(len(dev)), range(at_once, len(dev), at_once)):
        check()
        pixels = dev.pixels.take(rows)
        if dev.image_size != side:  # as in serving, which takes OpenCV's BGR and returns RGB
            pixels = np.stack([squash(image, size=side)[..., ::-1] for image in pixels])
        captions += [caption.text for caption in runtime.caption(pixels)]
    return _figures(captions, dev)
