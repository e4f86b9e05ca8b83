"""Spark's Python daemon, with what captioning imports in memory: `spark.python.daemon.module`.

Workers are forks of the daemon. What it has imported they share, in memory and in time: a second
and 100 MB for each of them otherwise. Never imported here: Keras and TensorFlow, which must not
look at the machine before the worker knows which GPU Spark gave it (`udfs.caption`).
"""

from __future__ import annotations

import importlib
import logging

import pandas as pd  # noqa: F401  # pyarrow imports it for the first row
import pyspark.daemon

import udfs.caption  # noqa: F401

OPTIONAL = ("models.openvino_engine",)


def import_what_is_there() -> None:
    """Import what not every installation has; a worker that needs it says what is missing."""
    for name in OPTIONAL:
        try:
            importlib.import_module(name)
        except ImportError as error:
            logging.getLogger("captionlake").info("%s is left to the workers: %s", name, error)


if __name__ == "__main__":
    import_what_is_there()
    pyspark.daemon.manager()
