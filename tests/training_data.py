"""Photographs that a tiny captioner can learn to tell apart: plain colours, five captions each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.training.reports import EpochReport, StepReport
from models.training.shards import Example, Shards, write_shards
from tests.tiny_model import SIDE

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200)}
SENTENCES = (
    "A {0} wall .",
    "The wall is {0} .",
    "There is a {0} wall .",
    "A wall painted {0} .",
    "Someone painted the wall {0} .",
)


class Notebook:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.epochs: list[EpochReport] = []

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)

    def on_epoch(self, report: EpochReport) -> None:
        self.epochs.append(report)


def make_shards(folder: Path, *, images: int, seed: int = 0) -> Shards:
    """Write shards of so many photographs, the colours in turn."""
    random = np.random.default_rng(seed)
    examples = (_example(number, random) for number in range(images))
    return write_shards(examples, folder, image_size=SIDE)


def _example(number: int, random: np.random.Generator) -> Example:
    name, colour = list(COLOURS.items())[number % len(COLOURS)]
    noise = random.integers(-20, 21, (SIDE, SIDE, 3))
    pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
    return Example(f"{number:04d}.jpg", pixels, [text.format(name) for text in SENTENCES])
