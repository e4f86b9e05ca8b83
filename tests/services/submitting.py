"""Running a job as a scheduler does: through spark-submit.sh, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 400.0  # a run takes twenty seconds on a quiet machine


@dataclass
class Submission:
    """A job under way."""

    process: subprocess.Popen[str]

    def wait(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        output, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, output, errors

    def terminate(self) -> None:
        """Ask the script to end, as a scheduler does."""
        self.process.send_signal(signal.SIGTERM)

    def kill_all(self) -> None:
        """Take the script, the JVM, the driver and the workers away without warning."""
        for pid in descendants(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.process.poll() is None:
            self.kill_all()


def submit(*arguments: str, folder: Path, **variables: str) -> Submission:
    """Start spark-submit.sh with these arguments and environment variables in a folder."""
    command = [str(ROOT / "spark-submit.sh"), *arguments]
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


def descendants(pid: int) -> list[int]:
    """Return the process and all its living descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # just ended
        return []
    return [pid, *(one for child in children for one in descendants(int(child)))]


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the awaited state never came")
        time.sleep(0.1)
