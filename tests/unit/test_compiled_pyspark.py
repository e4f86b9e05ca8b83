"""The environment imports PySpark compiled, and yet leaves a cluster its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pyspark

ARCHIVE = Path(pyspark.__file__).parent / "python" / "lib" / "pyspark.zip"


def imported_from(archive: Path) -> str:
    """Return from where a new Python imports PySpark, with Spark's archive put ahead."""
    return subprocess.run(
        [sys.executable, "-c", "import pyspark; print(pyspark.__file__)"],
        env={**os.environ, "PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_sparks_archive_of_the_installed_package_isnt_unpacked_anew() -> None:
    assert ARCHIVE.exists()
    assert imported_from(ARCHIVE) == pyspark.__file__


def test_the_archive_of_another_spark_counts(tmp_path: Path) -> None:
    archive = tmp_path / "pyspark" / "python" / "lib" / "pyspark.zip"
    archive.parent.mkdir(parents=True)
    with ZipFile(archive, "w") as target:
        target.writestr("pyspark/__init__.py", "")
    assert imported_from(archive) == str(archive / "pyspark" / "__init__.py")
