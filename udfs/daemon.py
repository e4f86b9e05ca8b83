"""Spark's Python daemon, with what captioning imports in memory: `spark.python.daemon.module`.

Workers are forks of the daemon. What it has imported they share, in memory and in time: a second
and 100 MB for each of them otherwise. Never imported here: Keras and TensorFlow, which must not
look at the machine before the worker knows which GPU Spark gave it (`udfs.caption`).
"""

from __future__ import annotations

import gc
from contextlib import suppress

import cv2
import pandas as pd  # noqa: F401  # pyarrow imports it for the first row
import pyspark.daemon
import pyspark.worker

import udfs.caption  # noqa: F401

with suppress(ImportError):  # the Keras runtime does without; a worker that needs it says so
    import models.openvino_engine  # noqa: F401

cv2.setNumThreads(1)  # a slot is a core; each worker of an executor would start one per core

# After each task a worker collects garbage, and would look through all that was imported: 45 ms.
gc.collect()
gc.freeze()

if __name__ == "__main__":
    pyspark.daemon.manager()
