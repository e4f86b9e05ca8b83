"""Captions of the dev photographs and their figures, while training.

Shapes: B images · N grid cells · C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.captioner import Captioner
from models.decoding import DecodingParameters
from models.generation import generate
from models.keras_engine import KerasDecoder
from models.tokenizer import Tokenizer, split_words

IMAGES_AT_ONCE = 64


class DevCaptioner:
    """Captions features with whatever weights the model holds at the moment."""

    def __init__(self, model: Captioner, tokenizer: Tokenizer, *, beam_width: int) -> None:
        self._memory = tf.function(model.memory, reduce_retracing=True)
        self._decoder = KerasDecoder(model, rows=IMAGES_AT_ONCE * beam_width)
        self._decoding = DecodingParameters(beam_width=beam_width)
        self._tokenizer = tokenizer

    def caption(self, features: npt.NDArray[Any]) -> list[str]:
        """Captions of features [B, N, C], in order."""
        captions = []
        for first in range(0, len(features), IMAGES_AT_ONCE):
            chosen = np.asarray(features[first : first + IMAGES_AT_ONCE], np.float32)
            memory = self._memory(chosen).numpy()
            memory = memory.reshape(-1, *memory.shape[2:])
            found = generate(self._decoder, memory, self._decoding)
            captions += [self._tokenizer.decode(decoded.tokens) for decoded in found]
        return captions


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """CIDEr and BLEU-4 by pycocoevalcap's scorers, words split the PTB way by ``split_words``."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    bleu, cider = BleuScorer(n=4), CiderScorer(n=4, sigma=6.0)
    for caption, expected in zip(captions, references, strict=True):
        said = " ".join(split_words(caption))
        asked = [" ".join(split_words(reference)) for reference in expected]
        bleu += (said, asked)
        cider += (said, asked)
    blue_scores, _ = bleu.compute_score(option="closest", verbose=0)
    return {
        "cider": float(cider.compute_score()[0]),
        "bleu_4": float(blue_scores[3]),
        "distinct_captions": float(len(set(captions))),
        "mean_words": float(np.mean([len(caption.split()) for caption in captions])),
    }
