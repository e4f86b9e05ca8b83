"""Running a job as a scheduler does: through spark-submit.sh, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 400.0  # a run takes twenty seconds on a quiet machine


@dataclass
class Submission:
    """A job under way."""

    process: subprocess.Popen[str]

    @property
    def is_over(self) -> bool:
        """Whether the script has ended."""
        return self.process.poll() is not None

    def wait(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        output, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, output, errors

    def wait_for_line(self, text: str) -> None:
        """Read standard error up to a line with this text; `wait` returns what follows it."""
        assert self.process.stderr is not None
        if not any(text in line for line in self.process.stderr):
            raise EOFError(f"the job ended without saying {text!r}")

    def terminate(self) -> None:
        """Ask the script to end, as a scheduler does."""
        self.process.send_signal(signal.SIGTERM)

    def kill_all(self) -> None:
        """Take the script, the JVM, the driver and the workers away without warning."""
        script = psutil.Process(self.process.pid)
        for process in [script, *script.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.communicate()

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.process.poll() is None:
            self.kill_all()


def submit(*arguments: str, folder: Path, **variables: str) -> Submission:
    """Start spark-submit.sh with these arguments and environment variables in a folder."""
    # A killed test run leaves no job behind.
    command = ["setpriv", "--pdeathsig", "KILL", str(ROOT / "spark-submit.sh"), *arguments]
    return Submission(
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    )


def wait_until(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the awaited state never came")
        time.sleep(0.1)


def processes(text: str) -> list[psutil.Process]:
    """Return the processes that have this text in their command line, the oldest first."""
    found = [
        process
        for process in psutil.process_iter(["cmdline", "create_time"])
        if any(text in argument for argument in process.info["cmdline"] or ())
    ]
    return sorted(found, key=lambda process: process.info["create_time"])


@contextmanager
def paused(process: psutil.Process) -> Iterator[None]:
    """Let a process stand still."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
