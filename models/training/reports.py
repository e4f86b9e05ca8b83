"""What a training tells while it runs."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class StepReport(NamedTuple):
    """How the phase goes at one step."""

    phase: str
    step: int
    total_steps: int
    global_step: int
    """Steps done over all phases."""
    loss: float
    rate: float
    seconds_left: float
    """Until the phase's last step."""


class EpochReport(NamedTuple):
    """How dev looks after an epoch, under the averaged weights."""

    phase: str
    epoch: int
    global_step: int
    figures: dict[str, float]
    is_best: bool
    captions: list[str]
    """Of the dev photographs, in order."""


class Listener(Protocol):
    """Who is told how the training goes."""

    def on_step(self, report: StepReport) -> None:
        """After every few steps, or after a pass, with the mean of its losses."""

    def on_epoch(self, report: EpochReport) -> None:
        """After dev was captioned."""
