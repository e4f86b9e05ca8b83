"""Scripts in a Python of their own, say with another backend of Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_script(script: str, *arguments: str, **variables: str) -> str:
    """Return what a fresh interpreter prints last; it sees no GPU."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | variables
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]
