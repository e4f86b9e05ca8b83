"""Workers that read a real HDFS themselves: the same bytes as Spark, and never wrong ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from getpass import getuser
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from conf.filesystem import HdfsAddress
from jobs.inference import Inference
from models.package import ModelPackage
from models.reasons import Reason
from storage.hdfs_address import hdfs_address
from storage.reading import BinaryReader
from tests.captioning import photograph, run_job
from tests.services.hdfs_daemons import Hdfs, free_ports
from udfs import hdfs_files
from udfs.hdfs_files import AssignedHdfsFiles
from udfs.sources import Content

QUICKLY = (("dfs.client.failover.max.attempts", "1"), ("dfs.client.socket-timeout", "2000"))
ODD_NAMES = ["plain.jpg", "a b.jpg", "50%25 +;&.jpg", "ü#x?y.jpg", "[x]{y}*.jpg", "deep/er/z.jpg"]


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process be a worker for one test; a worker takes its user's name for good."""
    monkeypatch.setenv("HADOOP_USER_NAME", getuser())  # what it has said is undone with this
    yield
    hdfs_files.client_of.cache_clear()


@pytest.fixture
def folder(hdfs: Hdfs) -> Iterator[str]:
    name = f"/{uuid4().hex}"
    yield name
    InsecureClient(hdfs.web_uri, user="root").delete(name, recursive=True)


def put(hdfs: Hdfs, files: dict[str, bytes]) -> list[str]:
    """Write files by absolute name, and return their qualified paths."""
    client = InsecureClient(hdfs.web_uri, user="root")
    for name, content in files.items():
        client.write(name, content)
    return [f"{hdfs.uri}{name}" for name in files]


def read_all(paths: list[str], address: HdfsAddress, *, max_bytes: int = 10**6) -> list[Content]:
    """Read as one task does."""
    source = AssignedHdfsFiles([paths], max_bytes, address)
    batch = pa.RecordBatch.from_pydict({"id": [0]})
    return [file.read() for file in source(iter([batch]))]


def test_a_worker_reads_the_bytes_and_times_that_spark_reads(
    spark: SparkSession, hdfs: Hdfs, folder: str
) -> None:
    files = {f"{folder}/{name}": name.encode() * 9_999 for name in ODD_NAMES}
    paths = put(hdfs, files)
    address = hdfs_address(spark, paths)
    assert address is not None
    read = read_all(paths, address)
    assert [content.data for content in read] == list(files.values())
    rows = BinaryReader(spark, paths).frame(paths, partitions=1).collect()
    expected = {row["path"]: (bytes(row["content"]), row["mtime"].timestamp()) for row in rows}
    found = {
        path: (content.data, content.mtime and content.mtime.timestamp())
        for path, content in zip(paths, read, strict=True)
    }
    assert found == expected


def test_what_a_worker_cant_read_has_a_reason_and_no_bytes(
    spark: SparkSession, hdfs: Hdfs, folder: str
) -> None:
    files = {f"{folder}/{name}": bytes(size) for name, size in [("e", 0), ("l", 101), ("k", 100)]}
    empty, large, kept = put(hdfs, files)
    address = hdfs_address(spark, [kept])
    assert address is not None
    read = read_all([empty, f"{hdfs.uri}{folder}/gone", large, kept], address, max_bytes=100)
    assert [content.reason for content in read] == [
        None,
        Reason.UNREADABLE,
        Reason.TOO_LARGE,
        None,
    ]
    assert [content.data for content in read] == [b"", None, None, bytes(100)]


def test_a_worker_may_read_no_more_than_its_user(
    spark: SparkSession, hdfs: Hdfs, folder: str
) -> None:
    secret, public = put(hdfs, {f"{folder}/secret": b"secret", f"{folder}/public": b"public"})
    InsecureClient(hdfs.web_uri, user="root").set_permission(f"{folder}/secret", "600")
    address = hdfs_address(spark, [secret])
    assert address is not None
    read = read_all([secret, public], address._replace(user="alice"))
    assert [content.data for content in read] == [None, b"public"]
    assert "AccessControlException" in str(read[0].detail)


def test_a_damaged_block_is_never_passed_on(spark: SparkSession, own_hdfs: Hdfs) -> None:
    damaged, whole = put(own_hdfs, {"/damaged": b"d" * 100_000, "/whole": b"w" * 100_000})
    own_hdfs.damage_block(b"d" * 100_000)
    address = hdfs_address(spark, [damaged])
    assert address is not None
    read = read_all([damaged, whole], address)
    assert [content.data for content in read] == [None, b"w" * 100_000]


def test_a_hung_name_node_holds_no_worker_up(
    spark: SparkSession, own_hdfs: Hdfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = put(own_hdfs, {f"/{number}": b"x" for number in range(20)})
    address = hdfs_address(spark, paths)
    assert address is not None
    assert read_all(paths[:1], address)[0].data == b"x"
    monkeypatch.setattr(hdfs_files, "READ_SECONDS", 2.0)
    monkeypatch.setattr(hdfs_files, "SLOW_FAILURE_SECONDS", 1.0)
    own_hdfs.name_node.pause()
    read = read_all(paths, address)
    own_hdfs.name_node.resume()
    assert {content.reason for content in read} == {Reason.UNREADABLE}


def test_a_nameservice_leads_to_its_active_name_node(
    spark: SparkSession, hdfs: Hdfs, folder: str, nameservice: str
) -> None:
    put(hdfs, {f"{folder}/a": b"here"})
    path = f"{nameservice}{folder}/a"
    address = hdfs_address(spark, [path])
    assert address is not None
    assert read_all([path], address)[0].data == b"here"


def test_only_plain_hdfs_is_read_by_workers(spark: SparkSession, hdfs: Hdfs) -> None:
    assert hdfs_address(spark, ["file:/a"]) is None
    assert hdfs_address(spark, ["s3a://bucket/a"]) is None
    assert hdfs_address(spark, [f"{hdfs.uri}/a", "hdfs://other:8020/a"]) is None
    configuration: Any = spark.sparkContext._jsc.hadoopConfiguration()
    configuration.set("dfs.encrypt.data.transfer", "true")
    configuration.set("fs.hdfs.impl.disable.cache", "true")  # else a client made before answers
    try:
        assert hdfs_address(spark, [f"{hdfs.uri}/a"]) is None
    finally:
        configuration.unset("dfs.encrypt.data.transfer")
        configuration.unset("fs.hdfs.impl.disable.cache")


def test_with_kerberos_spark_reads(
    spark: SparkSession, hdfs: Hdfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = SimpleNamespace(isSecurityEnabled=lambda: True)
    monkeypatch.setattr("storage.hdfs_address.java_class", lambda _, __: users)
    assert hdfs_address(spark, [f"{hdfs.uri}/a"]) is None


def test_spark_reads_on_where_the_workers_cant(
    *,
    spark: SparkSession,
    hdfs: Hdfs,
    folder: str,
    tiny_package: ModelPackage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Say, executors behind a network that lets Spark's ports through and no others."""
    put(hdfs, {f"{folder}/in/{seed}.png": photograph(seed) for seed in range(30)})
    (nothing,) = free_ports(1)
    unreachable = HdfsAddress(f"hdfs://127.0.0.1:{nothing}", "root", QUICKLY)
    monkeypatch.setattr("jobs.files.hdfs_address", lambda *_: unreachable)
    inferred: list[int] = []
    run = Inference._run_once

    def run_and_count(*arguments: Any) -> pa.Table:
        returned = run(*arguments)
        inferred.append(sum(returned.column("inferred").to_pylist()))
        return returned

    monkeypatch.setattr(Inference, "_run_once", run_and_count)
    lake = f"{hdfs.uri}{folder}/lake"
    with caplog.at_level(logging.WARNING):
        run_job(spark, tiny_package, input=f"{hdfs.uri}{folder}/in", lake=lake, chunk_files=6)
    rows = spark.read.format("delta").load(f"{lake}/captions").collect()
    assert [row["status"] for row in rows] == ["captioned"] * 30
    assert inferred.count(0) in {2, 3}  # of 6: the first of one file, and what was in flight then
    (warning,) = [line for line in caplog.messages if "so Spark does from now on" in line]
    assert str(nothing) in warning
