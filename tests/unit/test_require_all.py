"""The rule that a skip fails where everything was installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_pytest(folder: Path, *, require_all: bool) -> str:
    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    variables = os.environ | {"CAPTIONLAKE_REQUIRE_ALL": "1" if require_all else "0"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(folder)]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    ).stdout


SKIPPED_TEST = "import pytest\n@pytest.mark.skip(reason='no Chromium')\ndef test_it(): pass\n"
SKIPPED_MODULE = "import pytest\npytest.importorskip('no_such_module')\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE])
def test_a_skip_fails_when_everything_is_required(tmp_path: Path, source: str) -> None:
    (tmp_path / "test_it.py").write_text(source)
    assert "did not run" in run_pytest(tmp_path, require_all=True)


def test_a_skip_stays_a_skip_otherwise(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SKIPPED_TEST)
    assert "1 skipped" in run_pytest(tmp_path, require_all=False)


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(EXPECTED_FAILURE)
    assert "1 xfailed" in run_pytest(tmp_path, require_all=True)
