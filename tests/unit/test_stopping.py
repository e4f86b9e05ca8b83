"""Ending on SIGTERM: the job sees the flag, and the caller learns that it was terminated."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jobs.cli import redact
from jobs.stopping import Stop, Terminated, run_stoppable

# The signals go to a process of their own: a handler runs on the alternate stack of the thread that
# it interrupts, and OpenVINO leaves a stack that is gone to a thread in which models were unloaded.
SIGNALLED = """
import os, sys, time
from jobs.stopping import Terminated, run_stoppable

def job(stop):
    os.kill(os.getpid(), int(sys.argv[1]))
    for _ in range(500):
        stop.check()
        time.sleep(0.01)
    print("not stopped")

try:
    run_stoppable(job)
except Terminated:
    print("terminated")
"""


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
    command = [sys.executable, "-c", SIGNALLED, str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "terminated\n"), ended.stderr


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
