"""The model card of a trained package: what it is, under which terms, how good, made from what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from conf.training import TrainSettings
from jobs.training_measure import Measured
from models.package import MODEL_CARD, ModelPackage

FIGURES = ("bleu_1", "bleu_4", "rouge_l", "cider")
_TERMS = re.compile(r"^## Terms[ \t]*\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def model_card(
    settings: TrainSettings,
    measured: Measured,
    lineage: Mapping[str, Any],
    *,
    encoder: str,
    initial: ModelPackage | None,
) -> str:
    """Return the text of MODEL_CARD.md; ``initial`` is the package that was trained on."""
    facts = "\n".join(f"- {key}: {value}" for key, value in lineage.items())
    rows = "\n".join(
        f"| {name} | {getattr(measured.beam, name):.3f} | {getattr(measured.greedy, name):.3f} |"
        for name in FIGURES
    )
    return f"""# {settings.name}

Captions photographs in English words: encoder {encoder}, transformer decoder.

## Terms

{terms_of(settings, initial)}

## Figures on the dev photographs, in float32

| | beam {measured.beam_width} | greedy |
| --- | --- | --- |
{rows}

## Lineage

{facts}
"""


def terms_of(settings: TrainSettings, initial: ModelPackage | None) -> str:
    """Return the terms that hold: what other photographs taught a model binds its successors."""
    if initial is None:
        return settings.data_terms
    card = initial.file(MODEL_CARD).read_text(encoding="utf-8")
    found = _TERMS.search(card)
    inherited = found["text"].strip() if found else ""
    if inherited == settings.data_terms:
        return inherited
    origin = (
        f"Trained on from {initial.config.name}, version {initial.version[:12]}, whose terms are:"
    )
    stated = inherited or "Its model card says nothing of terms."
    return f"{settings.data_terms}\n\n{origin}\n\n{stated}"
