"""Getting the model from the driver to every node, by Spark's own file distribution."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from models.package import ModelPackage


def ship_package(spark: SparkSession, package: ModelPackage) -> str:
    """Have Spark unpack the package once per node; return its folder's name there.

    The folder is named by the model's version, so a reused Python worker never meets another model
    under the same name. The archive lies among Spark's own files, which go when the session ends:
    executors fetch it with their first task, whatever that does, also those that join late.
    """
    name = f"model-{package.version[:16]}"
    archive = Path(SparkFiles.getRootDirectory()) / "shipped" / f"{name}.zip"
    if not archive.exists():
        archive.parent.mkdir(exist_ok=True)
        _write_archive(package, archive)
        spark.sparkContext.addArchive(f"{archive.as_uri()}#{name}")
    return name


def _write_archive(package: ModelPackage, archive: Path) -> None:
    """Store the package's own files, and nothing else that lies in its folder, uncompressed."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name in ("manifest.json", *package.files):
            target.write(package.directory / name, name)
