"""How good a trained network is, and how good the package that serves it."""

from __future__ import annotations

import os
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
    model: Captioner, tokenizer: Tokenizer, dev: Shards, *, beam_width: int
) -> Measured:
    """Caption and score dev with the network as it is, at the length penalty that suits it."""
    from models.training.evaluation import DevCaptioner, encode_shards

    features = encode_shards(model, dev)
    greedy = DevCaptioner(model, tokenizer, beam_width=1).caption(features)
    searcher = DevCaptioner(model, tokenizer, beam_width=beam_width)
    found = []
    for penalty in LENGTH_PENALTIES:
        captions = searcher.caption(features, length_penalty=penalty)
        found.append((_figures(captions, dev), penalty, captions))
    beam, penalty, captions = max(found, key=lambda one: one[0].cider)
    decoding = DecodingParameters(length_penalty=penalty)
    return Measured(beam, _figures(greedy, dev), beam_width, captions, decoding)


def _figures(captions: list[str], dev: Shards) -> CaptionFigures:
    return score_captions(captions, dev.captions, split=split_by_rules).figures


def measure_served(package: ModelPackage, dev: Shards, *, beam_width: int) -> CaptionFigures:
    """Caption and score dev by what serves: OpenVINO in int8, and the package's own decoding.

    Photographs are resized for a package of another image size, say an earlier champion.
    """
    side, captions = package.config.image_size, list[str]()
    threads = len(os.sched_getaffinity(0))
    runtime = load_runtime(package, beam_width=beam_width, threads=threads)
    at_once = IMAGES_AT_ONCE * threads
    for rows in np.split(np.arange(len(dev)), range(at_once, len(dev), at_once)):
        pixels = dev.pixels.take(rows)
        if dev.image_size != side:  # as in serving, which takes OpenCV's BGR and returns RGB
            pixels = np.stack([squash(image, size=side)[..., ::-1] for image in pixels])
        captions += [caption.text for caption in runtime.caption(pixels)]
    return _figures(captions, dev)
