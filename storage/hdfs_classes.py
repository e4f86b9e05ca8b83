"""Hadoop's classes for HDFS, loaded by a run that archives what its JVM has loaded."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pyspark
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from storage.hadoop import JAVA_ERRORS, java_class

ARCHIVING_VARIABLE = "CAPTIONLAKE_ARCHIVES_CLASSES"
_JARS = "hadoop-client-api-*.jar"
_PACKAGES = ("org/apache/hadoop/hdfs/", "org/apache/hadoop/ipc/")
_SELDOM_NEEDED = ("/server/", "/tools/", "/web/", "$Builder")


def load_if_archiving(spark: SparkSession) -> None:
    """Load the classes if this run's are archived: the first run reads local files, most often.

    An archive without them is the slower one, and no reason to fail a run that has succeeded.
    """
    if ARCHIVING_VARIABLE in os.environ:
        with suppress(*JAVA_ERRORS, OSError, BadZipFile):
            load_hdfs_classes(spark)


def load_hdfs_classes(spark: SparkSession) -> int:
    """Load what a client of HDFS needs into the driver's JVM; return how many classes were."""
    by_name = java_class(spark, "java.lang.Class")
    loader = java_class(spark, "java.lang.Thread").currentThread().getContextClassLoader()
    loaded = 0
    for name in _class_names():
        with suppress(Py4JJavaError):  # extends a class of a jar that Spark doesn't bring
            by_name.forName(name, False, loader)
            loaded += 1
    return loaded


def _class_names() -> list[str]:
    jars = (Path(pyspark.__file__).parent / "jars").glob(_JARS)
    entries = [entry for jar in jars for entry in ZipFile(jar).namelist()]
    return [
        entry.removesuffix(".class").replace("/", ".")
        for entry in entries
        if entry.startswith(_PACKAGES)
        and entry.endswith(".class")
        and not any(part in entry for part in _SELDOM_NEEDED)
    ]
