"""Inference on Spark: files that kill or hang their Python worker, and no others, are rejected."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.chunks import Chunk
from jobs.files import LocalFiles
from jobs.image_memory import ImageMemory
from jobs.inference import Inference
from models.images import DecodeLimits
from tests.captioning import photograph
from tests.faulty_model import CRASH, HANG, FaultyModel
from udfs.caption import CaptionPlan


def chunk_of(folder: Path, contents: dict[str, bytes]) -> Chunk:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    paths = [f"file:{folder / name}" for name in contents]
    sizes = [len(content) for content in contents.values()]
    return Chunk(pa.table({"path": paths, "file_size_bytes": sizes}))


def inference(spark: SparkSession, *, timeout_seconds: float = 20) -> Inference:
    return Inference(
        spark=spark,
        files=LocalFiles(spark, max_file_bytes=10**6),
        plan=CaptionPlan(
            model=FaultyModel(),
            limits=DecodeLimits(timeout_seconds=timeout_seconds),
            batch_images=3,
            decode_threads=0,
        ),
        memory=ImageMemory(spark.sparkContext),
        unit_files=4,
        max_file_bytes=10**6,
    )


@pytest.mark.parametrize(("deadly", "reason"), [(CRASH, "worker_killed"), (HANG, "decode_timeout")])
def test_a_deadly_file_is_rejected_and_its_neighbours_are_captioned(
    spark: SparkSession, tmp_path: Path, deadly: bytes, reason: str
) -> None:
    contents = {f"{seed}.png": photograph(seed) for seed in range(7)}
    contents["deadly.png"] = deadly
    chunk = chunk_of(tmp_path, contents)
    rows = {
        row["path"].rpartition("/")[2]: row
        for row in inference(spark, timeout_seconds=2).outcomes(chunk).to_pylist()
    }
    assert set(rows) == set(contents)
    assert rows["deadly.png"]["reason"] == reason
    assert all(rows[f"{seed}.png"]["status"] == "captioned" for seed in range(7))


def test_several_deadly_files_in_one_task_are_each_rejected(
    spark: SparkSession, tmp_path: Path
) -> None:
    contents = {f"{index}.png": CRASH + bytes([index]) for index in range(3)}
    contents["good.png"] = photograph(1)
    rows = inference(spark).outcomes(chunk_of(tmp_path, contents)).to_pylist()
    assert sorted(row["reason"] or "captioned" for row in rows) == [
        "captioned",
        "worker_killed",
        "worker_killed",
        "worker_killed",
    ]
