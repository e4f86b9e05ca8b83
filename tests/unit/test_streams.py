"""A run goes on when nobody listens to it any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOB = """
import sys
from pathlib import Path
from conf.settings import Settings
from jobs.cli import run_command

def main(resolved, stop):
    sys.stdin.readline()  # until the listener is gone
    for _ in range(3):
        print("counts", flush=True)
        print("warnings", file=sys.stderr, flush=True)
    Path("done").touch()

sys.exit(run_command(main, Settings, command="job", description=""))
"""


def test_a_run_outlives_the_worker_that_read_its_output(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", JOB],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "YES"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(60) == 0
    assert (tmp_path / "done").exists()
