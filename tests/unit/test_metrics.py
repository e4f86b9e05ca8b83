from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from models.metrics import CaptionFigures, score_captions, split_by_rules, split_by_stanford

REFERENCES = [
    ["A dog runs on the grass .", "The brown dog's running, fast!"],
    ["Two men don't talk at a T-shirt stand.", "Men stand."],
    ["A child (in red) jumps - high; very high.", "A child jumps."],
]


def test_words_are_split_as_the_standard_scorers_split_them() -> None:
    sentences = [text for texts in REFERENCES for text in texts]
    given = {row: [{"caption": text}] for row, text in enumerate(sentences)}
    expected = [words[0] for words in PTBTokenizer().tokenize(given).values()]
    assert split_by_stanford(sentences) == expected


def test_the_quick_rules_split_as_the_scorers_do_but_drop_brackets() -> None:
    sentences = [text.replace("(", "").replace(")", "") for texts in REFERENCES for text in texts]
    assert split_by_rules(sentences) == split_by_stanford(sentences)


def test_perfect_captions_score_highest() -> None:
    said = [texts[0] for texts in REFERENCES]
    figures = score_captions(said, REFERENCES, split=split_by_rules).figures
    assert figures.bleu_4 == pytest.approx(1.0)
    assert figures.rouge_l == pytest.approx(1.0)
    assert figures.distinct_captions == figures.images == 3


def test_a_model_that_says_one_thing_is_shown_up() -> None:
    figures = score_captions(["a dog"] * 3, REFERENCES, split=split_by_rules).figures
    assert (figures.distinct_captions, figures.most_frequent_share) == (1, 1.0)
    assert figures.mean_words == 2.0


def test_captions_are_scored_against_their_own_references() -> None:
    said = ["a dog runs on the grass", "cat", "a child jumps"]
    scored = score_captions(said, REFERENCES, split=split_by_rules)
    assert scored.cider_by_image[1] == 0.0
    assert min(scored.cider_by_image[0], scored.cider_by_image[2]) > 1.0
    assert scored.figures.meteor is None


def test_figures_have_names_for_mlflow() -> None:
    figures = score_captions(["a dog"] * 3, REFERENCES, split=split_by_rules).figures.as_dict()
    assert {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"} <= figures.keys()


@pytest.mark.parametrize("ending", ["exit 1", "read line; exit 1", "echo no number; read line"])
def test_a_meteor_whose_java_dies_is_left_out_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{ending}\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    figures: list[CaptionFigures] = []

    def score() -> None:
        scored = score_captions(["a dog"] * 3, REFERENCES, split=split_by_rules, with_meteor=True)
        figures.append(scored.figures)

    # A scorer that waits for its own lock heeds no signal; a thread of this kind is left behind.
    scoring = Thread(target=score, daemon=True)
    scoring.start()
    scoring.join(timeout=60)
    assert not scoring.is_alive()
    assert figures[0].meteor is None
    assert figures[0].images == 3
