"""Ending on SIGTERM: the job sees the flag, and the caller learns that it was terminated."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark import SparkContext

from conf.resolve import Resolved
from conf.settings import CaptionSettings
from jobs.cli import redact, run_command, to_keep
from jobs.stopping import Stop, Terminated, run_stoppable

LEFT_BEHIND = """
import atexit, sys
from conf.errors import LakeError
from conf.settings import CaptionSettings
from jobs.cli import run_command
from storage.abandoned import abandon

def main(resolved, stop):
    abandon("file:/table")
    raise LakeError("no lake")

class Ended:
    def __del__(self):
        print("Python ended by itself")

left = Ended()
atexit.register(print, "cleaned")
sys.exit(run_command(main, CaptionSettings, command="job", description="", arguments=[]))
"""

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


def test_too_late_a_signal_changes_nothing() -> None:
    def job(stop: Stop) -> None:
        assert not stop.begin_closing()
        stop.ask()
        stop.check()

    run_stoppable(job)


class Context:
    """What `Stop` needs of a SparkContext."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancelAllJobs(self) -> None:  # noqa: N802
        self.cancelled += 1


def test_only_the_work_of_a_live_session_is_cancelled() -> None:
    stop, context = Stop(), Context()
    stop.ask()
    with stop.cancelling(cast("SparkContext", context)):
        stop.cancel_work()
        assert context.cancelled == 1
        stop.begin_closing()
        stop.cancel_work()
    stop.cancel_work()
    assert context.cancelled == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("s3a://key:secret@bucket/x", "s3a://***@bucket/x"),
        ("hdfs://u:p@ss@h:8020/x", "hdfs://***@h:8020/x"),
        ("abfs://c@h/y?sig=abc&token=t0p", "abfs://c@h/y?sig=***&token=***"),
        ("webhdfs://h/x?delegation=a/b+c&op=OPEN", "webhdfs://h/x?delegation=***&op=OPEN"),
        ("http://h/?pwd=a'b", "http://h/?pwd=***'b"),
        ("file:/in/region_key=eu/night", "file:/in/region_key=eu/night"),
        ('{"uri": "http://h?access_token=x"}', '{"uri": "http://h?access_token=***"}'),
    ],
)
def test_user_info_and_tokens_leave_the_text(text: str, left: str) -> None:
    assert redact(text) == left


def test_settings_that_are_kept_hold_no_secrets() -> None:
    settings = CaptionSettings(
        input="file:/in/region_key=eu/night", tracking_uri='http://u:"x@h?token=t0p'
    )
    values = to_keep(settings)
    assert values["input"] == settings.input
    assert "t0p" not in values["tracking_uri"]


@pytest.mark.parametrize(
    "raised", [OSError(28, "No space left on device"), Py4JNetworkError("Answer is empty")]
)
def test_what_the_machine_raises_is_one_line_and_its_own_exit_code(
    raised: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_: Resolved[CaptionSettings], __: Stop) -> None:
        raise raised

    code = run_command(main, CaptionSettings, command="job", description="", arguments=[])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 6
    assert lines[-1].startswith("job: ")
    assert "Traceback" not in "\n".join(lines)


def test_a_query_left_behind_changes_neither_the_exit_code_nor_what_is_cleaned_up() -> None:
    """Python's own end would come while the query is at work, which may crash the process."""
    ended = subprocess.run(
        [sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout.split()) == (5, ["cleaned"])
    assert "job: no lake" in ended.stderr
