"""What a run's summary says of its stages."""

from __future__ import annotations

import pytest

from jobs.stage_budget import ADVICE, bottleneck, describe_stages
from udfs.budget import WORKER_STAGES


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"tasks": 20, "encode": 9, "decode": 8, "captioning": 10}, "encode"),
        ({"tasks": 20, "encode": 3, "decode": 8, "captioning": 10}, "decode"),
        ({"tasks": 20, "encode": 3, "wait": 16, "captioning": 10}, "wait"),
        ({"tasks": 4, "encode": 4, "captioning": 10}, "idle slots"),
        ({"tasks": 4, "encode": 4, "captioning": 3, "pending": 2, "reconcile": 2}, "driver"),
    ],
)
def test_the_longest_stage_is_the_bottleneck(seconds: dict[str, float], expected: str) -> None:
    assert bottleneck(seconds, slots=2).startswith(f"{expected}: ")


def test_every_stage_of_the_workers_has_its_advice() -> None:
    assert set(ADVICE) == set(WORKER_STAGES)


def test_what_decode_threads_do_stands_beside_the_shares() -> None:
    text = describe_stages(
        {"tasks": 10, "wait": 7, "encode": 3, "decode_ahead": 65, "captioning": 10}, slots=1
    )
    tasks, _, bottleneck_line = text.splitlines()
    assert tasks == "Tasks:  10.0 s = wait 70 %, encode 30 %; in decode threads: decode 65.0 s"
    assert "--decode-threads" in bottleneck_line
