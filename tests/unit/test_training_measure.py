"""How a trained network is measured on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs.training_measure import measure_model
from models.tokenizer import Tokenizer
from models.training.evaluation import DevCaptioner, encode_shards
from tests.tiny_model import WORDS, make_tiny_captioner
from tests.training_data import make_shards


def test_a_measurement_a_part_at_a_time_is_that_of_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, words, sizes = make_tiny_captioner(), Tokenizer(WORDS), list[int]()
    dev, caption = make_shards(tmp_path, images=70), DevCaptioner.caption

    def count(captioner: DevCaptioner, features: npt.NDArray[Any], **options: Any) -> list[str]:
        sizes.append(len(features))
        return caption(captioner, features, **options)

    monkeypatch.setattr(DevCaptioner, "caption", count)
    measured = measure_model(model, words, dev, beam_width=2)
    assert sizes == [64] * 5 + [6] * 5  # greedy, and the length penalties
    features = np.concatenate([*encode_shards(model, dev)])
    penalty = measured.decoding.length_penalty
    searcher = DevCaptioner(model, words, beam_width=2)
    assert measured.captions == searcher.caption(features, length_penalty=penalty)
