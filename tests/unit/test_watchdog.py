"""A decode that never ends takes its process with it, and says which file it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from models.watchdog import EXIT_CODE, guard

HANG = """
from models.watchdog import guard
from tests.faulty_decoding import {fault}
with guard("/photos/bad\\nname.jpg", timeout_seconds=0.3):
    {fault}()
"""
FORKED = """
import os, sys, time
from models.watchdog import guard
with guard("/parent.jpg", timeout_seconds=60):
    pass
child = os.fork()
if child == 0:
    with guard("/child.jpg", timeout_seconds=0.3):
        time.sleep(30)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )


def test_a_loop_in_native_code_ends_the_process_and_names_the_file() -> None:
    ended = run(HANG.format(fault="loop_in_native_code"))
    assert ended.returncode == EXIT_CODE
    assert r"'/photos/bad\nname.jpg'" in ended.stderr


def test_a_loop_in_python_ends_the_process() -> None:
    assert run(HANG.format(fault="loop_forever")).returncode == EXIT_CODE


def test_a_forked_worker_is_watched_too() -> None:
    ended = run(FORKED)
    assert ended.returncode == EXIT_CODE
    assert "/child.jpg" in ended.stderr


def test_a_decode_in_time_lets_the_process_live() -> None:
    with guard("/quick.jpg", timeout_seconds=1):
        pass
    time.sleep(1.5)
    assert os.getpid()


def test_an_error_inside_ends_the_watch() -> None:
    try:
        with guard("/error.jpg", timeout_seconds=1):
            raise ValueError
    except ValueError:
        time.sleep(1.5)


def test_threads_are_watched_side_by_side() -> None:
    def decode_for(seconds: float) -> None:
        for _ in range(20):
            with guard("/thread.jpg", timeout_seconds=2):
                time.sleep(seconds)

    threads = [threading.Thread(target=decode_for, args=(0.01,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
