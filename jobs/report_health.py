"""Whether a run's captions look like those of the runs before: figures, thresholds, verdicts.

Captions are counted per image, not per path, so that copies of one photograph count once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLLAPSE_SHARE = 0.25  # of a run's images have one and the same caption
DISTINCT_FALL = 0.5  # distinct captions per image, relative to the runs before
DRIFT = 0.25  # population stability index; by custom above 0.1 is a change, above 0.25 a large one
REJECTED_RISE = 0.05  # of the files, above the share of the runs before
SLOW = 0.5  # images per second, relative to the median of the runs before
FEWEST_FOR_COLLAPSE = 20  # images; fewer say nothing
FEWEST_FOR_DRIFT = 200  # images on either side: below, chance alone passes the threshold
SCORE_BINS = 10
_LEAST_SHARE = 1e-3  # stands for an empty bin, whose logarithm is infinite


@dataclass(frozen=True)
class Speech:
    """What captions of a set of images look like.

    Attributes:
        images: captioned images, copies counted once.
        distinct_share: different captions per image; None without images.
        words: images by number of words of their caption.
        scores: images by tenth of the score, 0 to 9.
        frequent: captions that at least two images have, with their images, by frequency.
    """

    images: int
    distinct_share: float | None
    words: Mapping[int, int]
    scores: Mapping[int, int]
    frequent: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Check:
    """One question to the run: raised, fine, or not to be judged."""

    name: str
    verdict: str
    says: str


RAISED, FINE, UNKNOWN = "look", "fine", "unknown"


def check_speech(own: Speech, usual: Speech) -> list[Check]:
    """Return the checks of a run's captions against those of the runs before."""
    return [
        _check_collapse(own),
        _check_distinct(own, usual),
        _check_drift("Length of captions", own.words, usual.words),
        _check_drift("Scores", own.scores, usual.scores),
    ]


def check_rejected(share: float | None, usual: Sequence[float]) -> Check:
    """Compare the share of rejected files with that of the runs before."""
    name = "Rejected share"
    if share is None or not usual:
        return _without_usual(name)
    before = statistics.median(usual)
    says = f"{share:.1%} of the files were rejected, {before:.1%} usually"
    limit = f"{before + REJECTED_RISE:.1%}"
    return _judged(name, share > before + REJECTED_RISE, f"{says} (look above {limit}).")


def check_speed(speed: float | None, usual: Sequence[float]) -> Check:
    """Compare images per second with those of the runs before."""
    name = "Throughput"
    if speed is None or not usual:
        return _without_usual(name)
    before = statistics.median(usual)
    says = f"{speed:.1f} images/s, {before:.1f} usually (look below {SLOW * before:.1f})."
    return _judged(name, speed < SLOW * before, says)


def population_stability(own: Mapping[int, int], usual: Mapping[int, int]) -> float:
    """Return how far two distributions over the same bins differ; 0 where they are equal."""
    return sum(
        (p - q) * math.log(p / q)
        for p, q in ((_share(own, place), _share(usual, place)) for place in sorted({*own, *usual}))
    )


def _share(counts: Mapping[int, int], place: int) -> float:
    return max(counts.get(place, 0) / sum(counts.values()), _LEAST_SHARE)


def _without_usual(name: str) -> Check:
    return Check(name, UNKNOWN, "There is no earlier run to compare with.")


def _check_collapse(own: Speech) -> Check:
    name = "One caption for all"
    if own.images < FEWEST_FOR_COLLAPSE:
        return Check(name, UNKNOWN, f"Fewer than {FEWEST_FOR_COLLAPSE} images: too few to tell.")
    most = own.frequent[0][1] if own.frequent else 1
    share = most / own.images
    says = f"The most frequent caption has {share:.1%} of the images (look above"
    return _judged(name, share > COLLAPSE_SHARE, f"{says} {COLLAPSE_SHARE:.0%}).")


def _check_distinct(own: Speech, usual: Speech) -> Check:
    name = "Variety"
    if own.distinct_share is None or usual.distinct_share is None:
        return _without_usual(name)
    least = DISTINCT_FALL * usual.distinct_share
    says = (
        f"{own.distinct_share:.0%} of the captions are different ones, {usual.distinct_share:.0%} "
        f"usually (look below {least:.0%})."
    )
    return _judged(name, own.distinct_share < least, says)


def _check_drift(name: str, own: Mapping[int, int], usual: Mapping[int, int]) -> Check:
    if min(sum(own.values()), sum(usual.values())) < FEWEST_FOR_DRIFT:
        few = f"Fewer than {FEWEST_FOR_DRIFT} images here or before: too few to tell."
        return Check(name, UNKNOWN, few)
    drift = population_stability(own, usual)
    says = f"The distribution differs by {drift:.2f} from the usual (PSI; look above {DRIFT})."
    return _judged(name, drift > DRIFT, says)


def _judged(name: str, is_raised: bool, says: str) -> Check:
    return Check(name, RAISED if is_raised else FINE, says)
