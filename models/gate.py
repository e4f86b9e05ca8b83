"""What decides between a model's versions: how their figures were measured, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_DEV_SET_TAG, _BEAM_TAG, _PRECISION_TAG = "dev_set", "measured_beam_width", "measured_precision"


@dataclass(frozen=True)
class Measurement:
    """How a version's figures came about: only those that came about alike are compared.

    Versions registered before beam and precision were kept have None there and equal nobody.
    """

    dev_set: str
    """Fingerprint of the dev photographs."""
    beam_width: int | None
    precision: str | None

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Measurement:
        """Read what a version keeps."""
        beam = tags.get(_BEAM_TAG)
        return cls(
            tags.get(_DEV_SET_TAG, ""),
            None if beam is None else int(beam),
            tags.get(_PRECISION_TAG),
        )

    def tags(self) -> dict[str, str]:
        """What a version keeps of it."""
        kept = {_BEAM_TAG: self.beam_width, _PRECISION_TAG: self.precision}
        known = {tag: str(value) for tag, value in kept.items() if value is not None}
        return {_DEV_SET_TAG: self.dev_set} | known

    def is_comparable(self, other: Measurement) -> bool:
        """Whether figures measured so and so may be held against each other."""
        return self == other and self.beam_width is not None and self.precision is not None


@dataclass(frozen=True)
class Verdict:
    """What became of a version at the gate."""

    is_champion: bool
    obstacle: str | None = None
    """Why it couldn't be compared with the champion, which stays."""
