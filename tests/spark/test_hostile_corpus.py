"""Hundreds of strange and broken files through the whole job: each has exactly its one outcome."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pyspark.sql import SparkSession

from models.images import preprocess_image
from models.package import ModelPackage
from models.runtime import load_runtime
from tests.captioning import captions, places, run_job
from tests.hostile import CAPTIONED, EITHER, REJECTED, hostile_corpus


def test_each_hostile_file_has_its_one_outcome_and_no_other_image_s_caption(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    files = {file.name: file for file in hostile_corpus()}
    (tmp_path / "in").mkdir()
    for file in files.values():
        (tmp_path / "in" / file.name).write_bytes(file.data)
    run_job(
        spark,
        tiny_package,
        **places(tmp_path),
        chunk_files=150,
        partition_files=40,
    )
    rows = {
        row["path"].removeprefix(f"file:{tmp_path}/in/"): row for row in captions(tmp_path / "lake")
    }
    assert set(rows) == set(files)
    runtime = load_runtime(tiny_package, runtime="openvino", precision="float32")
    for name, file in files.items():
        row = rows[name]
        assert row["image_id"] == hashlib.sha256(file.data).hexdigest()
        if file.outcome != EITHER:
            assert row["status"] == file.outcome, name
        if file.outcome == REJECTED and file.reasons:
            assert row["reason"] in file.reasons, name
        if row["status"] == CAPTIONED:
            pixels = preprocess_image(file.data, size=tiny_package.config.image_size).pixels
            assert pixels is not None
            assert row["caption"] == runtime.caption(pixels[None])[0].text, name
