"""Getting the model from the driver to every node, by Spark's own file distribution."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from models.package import ModelPackage


@contextmanager
def shipped_package(spark: SparkSession, package: ModelPackage) -> Iterator[str]:
    """Have Spark unpack the package once per node; yield its folder's name there.

    The folder is named by the model's version, so a reused Python worker never meets another model
    under the same name. The archive stays until the block ends, because executors fetch it with
    their first task, also those that join late.
    """
    name = f"model-{package.version[:16]}"
    with tempfile.TemporaryDirectory(prefix="captionlake-") as folder:
        archive = Path(folder) / f"{name}.zip"
        _write_archive(package, archive)
        spark.sparkContext.addArchive(f"{archive.as_uri()}#{name}")
        yield name


def _write_archive(package: ModelPackage, archive: Path) -> None:
    """Store the package's own files, and nothing else that lies in its folder, uncompressed."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name in ("manifest.json", *package.files):
            target.write(package.directory / name, name)
