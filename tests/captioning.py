"""Running the captioning job in the test's session, and reading its tables without Spark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from conf.settings import CaptionSettings
from jobs.caption_images import caption, set_scene
from jobs.stopping import Stop
from models.package import ModelPackage
from storage.captions import find_pending
from tests.tiny_model import random_pixels

Row = dict[str, Any]


def run_job(
    spark: SparkSession, package: ModelPackage, *, stop: Stop | None = None, **settings: Any
) -> None:
    """Run `caption_images` with a package that is already open."""
    chosen = CaptionSettings(model=str(package.directory), precision="float32", **settings)
    scene = set_scene(spark, stop or Stop(), chosen, env_local=True)
    caption(scene, chosen, package, show_captions=False)


def do_after_listing(patch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let something happen between a run's listing and its reading."""

    def find_then_act(*values: Any, **named: Any) -> Any:
        pending = find_pending(*values, **named)
        action()
        return pending

    patch.setattr("jobs.caption_images.find_pending", find_then_act)


def places(folder: Path) -> dict[str, Any]:
    """Return the settings of a run from the folder's `in` into its `lake`."""
    return {"input": str(folder / "in"), "lake": str(folder / "lake")}


def captions(lake: Path) -> list[Row]:
    """Rows of the captions table as delta-rs reads them, by path."""
    rows = DeltaTable(str(lake / "captions")).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: (row["path"], row["pipeline_version"]))


def runs(lake: Path) -> dict[str, Row]:
    """Rows of the runs table by run id."""
    rows = DeltaTable(str(lake / "runs")).to_pyarrow_table().to_pylist()
    assert len({row["run_id"] for row in rows}) == len(rows)
    return {row["run_id"]: row for row in rows}


def photograph(seed: int, *, extension: str = ".png") -> bytes:
    """An image of coloured blobs, different for each seed."""
    pixels = random_pixels(1, seed=seed)[0]
    return np.asarray(cv2.imencode(extension, pixels)[1]).tobytes()


def fill(folder: Path, count: int, *, first_seed: int = 0) -> list[Path]:
    """Write images of distinct bytes into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{seed:05d}.png" for seed in range(first_seed, first_seed + count)]
    for seed, file in enumerate(files, start=first_seed):
        file.write_bytes(photograph(seed))
    return files
