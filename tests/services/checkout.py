"""A copy of the checkout in a folder of any name, with a job of the test's own.

The copy borrows this test run's environment and jars, so that nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MADE_FROM = ("setup.py", "constraints.txt", "tools/compiled_pyspark.pth")  # the environment
COPIED = ("spark-submit.sh", "setup.py", "constraints.txt", "tools", "conf")


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository whose set-up counts as done."""

    root: Path

    @property
    def script(self) -> str:
        return str(self.root / "spark-submit.sh")

    def add_job(self, name: str, source: str) -> None:
        (self.root / "jobs" / f"{name}.py").write_text(source, encoding="utf-8")


def make_checkout(root: Path) -> Checkout:
    (root / "jobs").mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / name)
    for name in ("__init__.py", "session.py"):
        shutil.copy2(ROOT / "jobs" / name, root / "jobs" / name)
    _borrow_environment(root)
    _borrow_jars(root)
    return Checkout(root)


def _borrow_environment(root: Path) -> None:
    (root / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (root / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    made_from = b"".join((root / name).read_bytes() for name in MADE_FROM)
    stamp = hashlib.sha256(made_from + os.fsencode(root) + b"\n").hexdigest()
    (root / ".venv" / ".captionlake-run").write_text(f"{stamp}  -\n", encoding="utf-8")


def _borrow_jars(root: Path) -> None:
    (root / "jars").mkdir()
    for jar in (ROOT / "jars").glob("*.jar"):
        (root / "jars" / jar.name).symlink_to(jar)
    stamp = hashlib.sha256((root / "tools" / "jars.txt").read_bytes()).hexdigest()
    (root / "jars" / ".jars").write_text(f"{stamp}  -\n", encoding="utf-8")
