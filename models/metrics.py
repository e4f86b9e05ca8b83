"""Caption quality by the standard scorers (pycocoevalcap), in training and evaluation alike."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conf.errors import EnvironmentFault
from models.tokenizer import split_words

if TYPE_CHECKING:
    from pycocoevalcap.meteor.meteor import Meteor

log = logging.getLogger("captionlake")
Split = Callable[[Sequence[str]], list[str]]

TOKENIZER_JAR = "stanford-corenlp-3.4.1.jar"
# What pycocoevalcap's PTBTokenizer drops.
PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())  # noqa: SIM905


@dataclass(frozen=True)
class CaptionFigures:
    """How a set of captions does against its references; all scores 0 to 1 but CIDEr (0 to 10)."""

    images: int
    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    rouge_l: float
    cider: float
    mean_words: float
    distinct_captions: int
    most_frequent_share: float
    meteor: float | None = None

    def as_dict(self) -> dict[str, float]:
        """Figure by name, as MLflow wants them; one that wasn't measured is left out."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Scored:
    """The figures of a set, and CIDEr of each of its captions in order."""

    figures: CaptionFigures
    cider_by_image: list[float]


def score_captions(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    split: Split | None = None,
    with_meteor: bool = False,
) -> Scored:
    """Score captions[i] against references[i]; both are plain text, nothing tokenized.

    ``split`` defaults to `split_by_stanford`, which the published figures use. METEOR takes a
    Java process of 2 GB, so it is measured only where asked for, and if it runs. SPICE is left
    out: its Java part needs a download of its own.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider_scorer import CiderScorer
    from pycocoevalcap.rouge.rouge import Rouge

    said, expected = _split_all(captions, references, split or split_by_stanford)
    bleu, cider, rouge = BleuScorer(n=4), CiderScorer(n=4, sigma=6.0), Rouge()
    for caption, known in zip(said, expected, strict=True):
        bleu += (caption, known)
        cider += (caption, known)
    bleu_scores, _ = bleu.compute_score(option="closest", verbose=0)
    mean_cider, cider_by_image = cider.compute_score()
    pairs = zip(said, expected, strict=True)
    rouge_l = float(np.mean([rouge.calc_score([caption], known) for caption, known in pairs]))
    counts = Counter(captions)
    figures = CaptionFigures(
        images=len(captions),
        bleu_1=float(bleu_scores[0]),
        bleu_2=float(bleu_scores[1]),
        bleu_3=float(bleu_scores[2]),
        bleu_4=float(bleu_scores[3]),
        rouge_l=rouge_l,
        cider=float(mean_cider),
        mean_words=float(np.mean([len(caption.split()) for caption in captions])),
        distinct_captions=len(counts),
        most_frequent_share=counts.most_common(1)[0][1] / len(captions),
        meteor=_score_meteor(said, expected) if with_meteor else None,
    )
    return Scored(figures, [float(score) for score in cider_by_image])


def _score_meteor(said: list[str], expected: list[list[str]]) -> float | None:
    """METEOR 1.5, or None where its Java part is missing or fails."""
    from pycocoevalcap.meteor.meteor import Meteor

    known = dict(enumerate(expected))
    try:
        scorer = Meteor()
        try:
            mean, _ = scorer.compute_score(known, {row: [text] for row, text in enumerate(said)})
        finally:
            _make_disposable(scorer)
    except (OSError, ValueError) as error:
        log.info("METEOR is left out: %s", error)
        return None
    return float(mean)


def _make_disposable(scorer: Meteor) -> None:
    """Free the lock that a failed scoring keeps, since the scorer's own `__del__` waits for it.

    The pipe is closed here because closing it fails once the process behind it has gone.
    """
    if scorer.lock.locked():
        scorer.lock.release()
    with suppress(OSError):
        scorer.meteor_p.stdin.close()


def split_by_rules(sentences: Sequence[str]) -> list[str]:
    """Space-separated words by the project's own PTB rules: quick, and needs no Java."""
    return [" ".join(split_words(sentence)) for sentence in sentences]


def split_by_stanford(sentences: Sequence[str]) -> list[str]:
    """Space-separated words by the tokenizer of pycocoevalcap; raises EnvironmentFault."""
    lines = [" ".join(sentence.split()) for sentence in sentences]
    command = [
        _find_java(), "-Dfile.encoding=UTF-8", "-cp", str(_tokenizer_jar()),
        "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, input="\n".join(lines), capture_output=True, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentFault(
            f"The scorers' tokenizer failed ({error}).", remedy="Check that Java 17 runs."
        ) from error
    split = done.stdout.split("\n")[: len(lines)]
    return [" ".join(word for word in line.split() if word not in PUNCTUATION) for line in split]


def _split_all(
    captions: Sequence[str], references: Sequence[Sequence[str]], split: Split
) -> tuple[list[str], list[list[str]]]:
    """Split everything in one call: the tokenizer's process takes a second to start."""
    known = [sentence for sentences in references for sentence in sentences]
    words = iter(split([*captions, *known]))
    said = [next(words) for _ in captions]
    return said, [[next(words) for _ in sentences] for sentences in references]


def _find_java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java:
        raise EnvironmentFault("There is no Java here.", remedy="Install a JDK 17.")
    return java


def _tokenizer_jar() -> Path:
    found = find_spec("pycocoevalcap")
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise EnvironmentFault("pycocoevalcap is missing.", remedy="Install the train extra.")
    return Path(folders[0]) / "tokenizer" / TOKENIZER_JAR
