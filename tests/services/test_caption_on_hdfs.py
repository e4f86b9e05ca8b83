"""The job on a real HDFS: whoever reads the bytes, tables on HDFS, nothing opened twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from conf.errors import EnvironmentFault, InputError
from jobs.chunks import Chunk
from jobs.files import Files, SparkFiles
from jobs.inference import Inference
from models.images import preprocess_image
from models.package import ModelPackage
from models.runtime import load_runtime
from tests.captioning import captions, do_after_listing, photograph, run_job
from tests.services.hdfs_daemons import Hdfs


class Landing:
    """A folder of its own on the HDFS, with a batch and a lake."""

    def __init__(self, spark: SparkSession, hdfs: Hdfs) -> None:
        self.spark = spark
        self.hdfs = hdfs
        self.root = f"/{uuid4().hex}"
        self.client = InsecureClient(hdfs.web_uri, user="root")
        self.input = f"{hdfs.uri}{self.root}/in"
        self.lake = f"{hdfs.uri}{self.root}/lake"

    def put(self, name: str, content: bytes) -> str:
        path = f"{self.root}/in/{name}"
        self.client.write(path, content, overwrite=True)
        return path

    def put_photographs(self, count: int) -> None:
        for seed in range(count):
            self.put(f"{seed}.png", photograph(seed))

    def run(self, package: ModelPackage, **settings: Any) -> None:
        run_job(self.spark, package, input=self.input, lake=self.lake, **settings)

    def captions(self) -> list[dict[str, Any]]:
        frame = self.spark.read.format("delta").load(f"{self.lake}/captions")
        return [row.asDict() for row in frame.orderBy("path").collect()]


@pytest.fixture
def landing(spark: SparkSession, hdfs: Hdfs) -> Iterator[Landing]:
    place = Landing(spark, hdfs)
    yield place
    place.client.delete(place.root, recursive=True)


def test_each_caption_is_its_own_image_and_the_path_is_fully_qualified(
    landing: Landing, tiny_package: ModelPackage
) -> None:
    contents = {f"a/{seed}.png": photograph(seed) for seed in range(9)}
    contents["b/odd name [1] {x} #%20 é.png"] = photograph(100)
    contents["b/broken.jpg"] = b"<html>"
    for name, content in contents.items():
        landing.put(name, content)
    landing.run(tiny_package, chunk_files=4)
    rows = {row["path"].removeprefix(f"{landing.input}/"): row for row in landing.captions()}
    assert set(rows) == set(contents)
    runtime = load_runtime(tiny_package, runtime="openvino", precision="float32")
    for name, content in contents.items():
        assert rows[name]["image_id"] == hashlib.sha256(content).hexdigest()
        pixels = preprocess_image(content, size=tiny_package.config.image_size).pixels
        expected = None if pixels is None else runtime.caption(pixels[None])[0].text
        assert rows[name]["caption"] == expected


def test_a_rerun_over_a_finished_batch_opens_no_image(
    landing: Landing, hdfs: Hdfs, tiny_package: ModelPackage
) -> None:
    landing.put_photographs(5)
    mark = hdfs.audit_mark()
    landing.run(tiny_package)
    images = f"{landing.root}/in/"
    assert len([path for path in hdfs.opened_files(mark) if path.startswith(images)]) == 5
    mark = hdfs.audit_mark()
    landing.run(tiny_package)
    assert [path for path in hdfs.opened_files(mark) if path.startswith(images)] == []


def test_a_new_file_alone_is_opened(
    landing: Landing, hdfs: Hdfs, tiny_package: ModelPackage
) -> None:
    landing.put_photographs(3)
    landing.run(tiny_package)
    new = landing.put("new.png", photograph(50))
    mark = hdfs.audit_mark()
    landing.run(tiny_package)
    images = f"{landing.root}/in/"
    assert {path for path in hdfs.opened_files(mark) if path.startswith(images)} == {new}


def test_a_file_over_the_limit_is_rejected_unopened(
    landing: Landing, hdfs: Hdfs, tiny_package: ModelPackage
) -> None:
    small = landing.put("small.png", photograph(1))
    landing.put("large.png", bytes(10_001))
    mark = hdfs.audit_mark()
    landing.run(tiny_package, max_file_bytes=10_000)
    large = landing.captions()[0]
    assert (large["reason"], large["detail"]) == (
        "too_large",
        "10001 bytes, at most 10000 are read",
    )
    images = f"{landing.root}/in/"
    assert {path for path in hdfs.opened_files(mark) if path.startswith(images)} == {small}


def test_files_that_are_still_being_copied_are_left_alone(
    landing: Landing, tiny_package: ModelPackage
) -> None:
    landing.put("ready.png", photograph(1))
    landing.put("half.png._COPYING_", photograph(2)[:50])
    landing.put("_temporary/part.png", photograph(3))
    landing.put(".hidden.png", photograph(4))
    landing.run(tiny_package)
    assert [row["path"].rpartition("/")[2] for row in landing.captions()] == ["ready.png"]


def test_a_batch_without_its_success_marker_is_refused(
    landing: Landing, tiny_package: ModelPackage
) -> None:
    landing.put("night/1.png", photograph(1))
    with pytest.raises(InputError, match="_SUCCESS"):
        run_job(
            landing.spark,
            tiny_package,
            input=f"{landing.input}/night",
            lake=landing.lake,
            require_success=True,
        )
    landing.put("night/_SUCCESS", b"")
    run_job(
        landing.spark,
        tiny_package,
        input=f"{landing.input}/night",
        lake=landing.lake,
        require_success=True,
    )
    assert len(landing.captions()) == 1


def test_a_file_deleted_after_the_listing_is_a_reject_to_try_again(
    landing: Landing, tiny_package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing.put_photographs(4)
    do_after_listing(monkeypatch, lambda: landing.client.delete(f"{landing.root}/in/2.png"))
    landing.run(tiny_package)
    assert [row["reason"] for row in landing.captions()] == [None, None, "vanished", None]


@pytest.fixture
def impatient(spark: SparkSession) -> Iterator[None]:
    """Clients of an HDFS that is new to them don't wait seconds for a lost block to come back."""
    configuration: Any = spark.sparkContext._jsc.hadoopConfiguration()
    configuration.setInt("dfs.client.retry.window.base", 1)  # ms
    yield
    configuration.unset("dfs.client.retry.window.base")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("reader", "expected"), [("worker", [9, 4]), ("spark", [9, 5])])
def test_several_files_with_lost_blocks_cost_one_rerun(
    *,
    reader: str,
    expected: list[int],
    spark: SparkSession,
    own_hdfs: Hdfs,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Landing(spark, own_hdfs)
    place.put_photographs(9)
    own_hdfs.lose_blocks([photograph(seed) for seed in (0, 1, 2, 8)])
    runs: list[int] = []
    run = Inference._run_once

    def run_and_count(self: Inference, chunk: Chunk, files: Files) -> Any:
        runs.append(chunk.files.num_rows)
        return run(self, chunk, files)

    monkeypatch.setattr(Inference, "_run_once", run_and_count)
    lake = str(tmp_path / "lake")
    run_job(spark, tiny_package, input=place.input, lake=lake, hdfs_reader=reader)
    assert runs == expected
    reasons = [row["reason"] for row in captions(tmp_path / "lake")]
    assert reasons == ["unreadable"] * 3 + [None] * 5 + ["unreadable"]


@pytest.mark.usefixtures("impatient")
def test_a_data_node_lost_after_the_workers_read_is_no_files_fault(
    *,
    spark: SparkSession,
    own_hdfs: Hdfs,
    tiny_package: ModelPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Landing(spark, own_hdfs)
    place.put_photographs(4)
    own_hdfs.lose_blocks([photograph(3)])
    assign = SparkFiles.assign

    def lose_then_assign(self: SparkFiles, units: Any, *, largest_bytes: int) -> Any:
        own_hdfs.data_node.kill()
        return assign(self, units, largest_bytes=largest_bytes)

    monkeypatch.setattr(SparkFiles, "assign", lose_then_assign)
    lake = tmp_path / "lake"
    with pytest.raises(EnvironmentFault, match="The storage is failing"):
        run_job(spark, tiny_package, input=place.input, lake=str(lake), chunk_files=40)
    assert captions(lake) == []


def test_a_lost_data_node_ends_the_run_and_rejects_nothing(
    spark: SparkSession, own_hdfs: Hdfs, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    place = Landing(spark, own_hdfs)
    place.put_photographs(4)
    arguments: dict[str, Any] = {"input": place.input, "lake": str(tmp_path / "lake")}
    own_hdfs.data_node.kill()
    with pytest.raises(EnvironmentFault, match="The storage is failing"):
        run_job(spark, tiny_package, **arguments)
    assert captions(tmp_path / "lake") == []
    own_hdfs.data_node.start()
    own_hdfs.wait_until_ready()
    run_job(spark, tiny_package, **arguments)
    assert [row["status"] for row in captions(tmp_path / "lake")] == ["captioned"] * 4
