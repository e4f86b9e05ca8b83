"""Globs over the machine's own filesystem, with Hadoop's syntax.

Hadoop compiles the pattern but doesn't list: Java can't name a file whose name is no UTF-8, and
its listing leaves such files out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from conf.filesystem import LOCAL_SCHEME, text_of_local
from storage.hadoop import java_class

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def glob_local(spark: SparkSession, pattern: str) -> list[str]:
    """Return the qualified paths that match Hadoop's glob, hidden names included.

    Raises:
        OSError: a folder may not be listed.
        Py4JJavaError: the pattern is none.
    """
    expander = java_class(spark, "org.apache.hadoop.fs.GlobExpander")
    alternatives = [str(one) for one in expander.expand(pattern.removeprefix(LOCAL_SCHEME))]
    return [text_of_local(path) for one in alternatives for path in _matches(spark, one)]


def _matches(spark: SparkSession, pattern: str) -> list[str]:
    found = ["/"]
    for component in filter(None, pattern.split("/")):
        compiled = java_class(spark, "org.apache.hadoop.fs.GlobPattern")(component)
        if compiled.hasWildcard():
            names = re.compile(str(compiled.compiled().pattern()), re.DOTALL)
            found = list(_children(found, names))
        else:
            named = [Path(folder) / _ESCAPED.sub(r"\1", component) for folder in found]
            found = [str(path) for path in named if path.exists()]
    return found


def _children(folders: Iterable[str], names: re.Pattern[str]) -> Iterator[str]:
    """Yield what lies in the folders under a name that matches; what is no folder has nothing."""
    for folder in folders:
        try:
            children = sorted(Path(folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield from (str(child) for child in children if names.fullmatch(child.name))
