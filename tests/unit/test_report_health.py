"""Collapse and drift of captions: raised where they are, and nowhere else."""

from __future__ import annotations

import pytest

from jobs.report_health import (
    FINE,
    RAISED,
    UNKNOWN,
    Speech,
    check_rejected,
    check_speech,
    check_speed,
    population_stability,
)

WORDS = {5: 50, 6: 120, 7: 150, 8: 80}
SCORES = {2: 60, 3: 180, 4: 120, 5: 40}


def speech(**changes: object) -> Speech:
    fields = {"images": 400, "distinct_share": 0.8, "words": WORDS, "scores": SCORES}
    return Speech(**{**fields, "frequent": [("a dog runs", 20)], **changes})  # type: ignore[arg-type]


def verdicts(own: Speech, usual: Speech) -> dict[str, str]:
    return {check.name: check.verdict for check in check_speech(own, usual)}


def test_a_run_like_those_before_is_fine() -> None:
    assert set(verdicts(speech(), speech()).values()) == {FINE}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"frequent": [("a dog runs", 101)]}, "One caption for all"),
        ({"distinct_share": 0.39}, "Variety"),
        ({"words": {12: 400}}, "Length of captions"),
        ({"scores": {0: 200, 1: 200}}, "Scores"),
    ],
)
def test_each_change_raises_its_own_check(changes: dict[str, object], name: str) -> None:
    found = verdicts(speech(**changes), speech())
    assert {key for key, verdict in found.items() if verdict == RAISED} == {name}


def test_few_images_and_a_first_run_tell_nothing() -> None:
    nothing = Speech(0, None, {}, {})
    few = speech(images=8, words={12: 8}, scores={0: 8}, frequent=[("same", 8)])
    assert set(verdicts(few, nothing).values()) == {UNKNOWN}
    assert set(verdicts(nothing, speech()).values()) == {UNKNOWN}


def test_the_index_is_zero_for_equal_shares_and_symmetric() -> None:
    doubled = {place: 2 * count for place, count in WORDS.items()}
    assert population_stability(WORDS, doubled) == pytest.approx(0)
    assert population_stability(WORDS, SCORES) == pytest.approx(population_stability(SCORES, WORDS))
    assert population_stability({1: 50, 2: 50}, {1: 25, 2: 75}) == pytest.approx(0.2747, abs=1e-4)


@pytest.mark.parametrize(("share", "verdict"), [(0.04, FINE), (0.06, RAISED), (None, UNKNOWN)])
def test_more_rejects_than_usual_are_raised(share: float | None, verdict: str) -> None:
    assert check_rejected(share, [0.0, 0.001, 0.3]).verdict == verdict


@pytest.mark.parametrize(("speed", "verdict"), [(26.0, FINE), (24.0, RAISED), (None, UNKNOWN)])
def test_half_the_usual_speed_is_raised(speed: float | None, verdict: str) -> None:
    assert check_speed(speed, [10.0, 50.0, 60.0]).verdict == verdict
