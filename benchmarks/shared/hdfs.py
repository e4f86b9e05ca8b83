"""A real HDFS to read from: the one that the tests start."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.hdfs_daemons import Hdfs, jars_missing, java, running_hdfs


@contextmanager
def hdfs_with(folders: list[Path], *, cache: Path) -> Iterator[str]:
    """Yield the URI of an HDFS that holds these local folders under their own names."""
    if missing := jars_missing():
        raise SystemExit(missing)
    with (
        tempfile.TemporaryDirectory(dir=cache, prefix="hdfs-") as home,
        running_hdfs(Path(home)) as hdfs,
    ):
        for folder in folders:
            _upload(hdfs, folder)
        yield hdfs.uri


def _upload(hdfs: Hdfs, folder: Path) -> None:
    """Copy with Hadoop's own shell, out of the jars that Spark brings."""
    classpath = os.pathsep.join((str(hdfs.configuration), hdfs.data_node.classpath))
    shell = [java(), "-Xmx512m", "-cp", classpath, "org.apache.hadoop.fs.FsShell"]
    subprocess.run(
        [*shell, "-put", "-t", "16", str(folder), "/"], check=True, stdin=subprocess.DEVNULL
    )
