"""What a dry run tells of the time that a run would take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from jobs.summary import describe_seconds, print_pending
from storage.runs import RunRecord
from storage.schemas import LISTING

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def listing(files: int) -> pa.Table:
    rows = [(f"file:/in/{number}.jpg", 100, NOON) for number in range(files)]
    return pa.table(dict(zip(LISTING.names, zip(*rows, strict=True), strict=True)), LISTING)


def run(run_id: str, *, captioned: int, images_per_second: float) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        job="caption_images",
        arguments="{}",
        code_version="1",
        model_version="m",
        pipeline_version="p",
        started_at=NOON - timedelta(days=1),
        state="succeeded",
        captioned=captioned,
        images_per_second=images_per_second,
    )


def test_the_run_of_the_most_similar_size_tells_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier = [
        run("small", captioned=10, images_per_second=2.0),
        run("similar", captioned=800, images_per_second=50.0),
        run("large", captioned=90_000, images_per_second=300.0),
    ]
    print_pending(listing(1200), listing(1000), earlier)
    told = capsys.readouterr().out
    assert "1200 files found, 200 already done, 1000 pending" in told
    assert "About 20 s at 50.0 images/s, as in run similar of 2026-11-22 (800 images)." in told


def test_without_an_earlier_run_the_time_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    print_pending(listing(3), listing(3), [])
    assert "How long it will take is unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (5000, "84 min"), (6000, "1 h 40 min")],
)
def test_a_length_of_time_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
