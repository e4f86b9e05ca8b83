"""Ending on SIGTERM: the job sees the flag, and the caller learns that it was terminated."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from jobs.cli import redact
from jobs.stopping import Stop, Terminated, run_stoppable


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_job_that_is_left_alone_ends_by_itself() -> None:
    done = []
    run_stoppable(lambda _: done.append(True))
    assert done == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job_where_it_looks(number: signal.Signals) -> None:
    rounds = []

    def job(stop: Stop) -> None:
        os.kill(os.getpid(), number)
        for _ in range(500):
            stop.check()
            rounds.append(1)
            time.sleep(0.01)

    with pytest.raises(Terminated):
        run_stoppable(job)
    assert len(rounds) < 500


def test_an_error_of_the_job_reaches_the_caller() -> None:
    def job(_: Stop) -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        run_stoppable(job)


def test_an_error_after_the_signal_counts_as_terminated() -> None:
    def job(stop: Stop) -> None:
        stop.ask()
        raise ValueError("a cancelled Spark job")

    with pytest.raises(Terminated):
        run_stoppable(job)


def test_user_info_and_tokens_leave_the_text() -> None:
    text = redact("s3a://key:secret@bucket/x and abfs://c@h/y?sig=abc&token=t0p")
    assert "secret" not in text
    assert "abc" not in text
    assert "t0p" not in text
    assert "abfs://c@h/y" in text
