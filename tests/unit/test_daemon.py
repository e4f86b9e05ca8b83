"""The daemon that Spark's Python workers are forks of."""

from __future__ import annotations

import subprocess
import sys

MODULES = "{'pandas', 'cv2', 'openvino', 'pyspark.worker', 'udfs.caption'} - sys.modules.keys()"
KEPT_AWAY = "{'keras', 'tensorflow', 'jax'} & sys.modules.keys()"


def told_by_a_daemon(expression: str) -> str:
    script = f"import gc, sys, udfs.daemon; print({expression})"
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120
    )
    return told.stdout.strip()


def test_it_has_what_captioning_needs_and_no_framework_that_looks_for_gpus() -> None:
    assert told_by_a_daemon(f"{MODULES}, {KEPT_AWAY}") == "set() set()"


def test_a_workers_garbage_collection_leaves_out_what_was_imported() -> None:
    assert told_by_a_daemon("len(gc.get_objects()) * 10 < gc.get_freeze_count()") == "True"
