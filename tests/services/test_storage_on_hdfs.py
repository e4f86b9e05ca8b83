"""Storage on a real HDFS: listing, reading, and commits of separate processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from conf.errors import InputError
from storage.lake import open_lake
from storage.listing import list_files
from storage.paths import qualify
from storage.reading import BinaryReader, probe_unread
from tests.services.committing import CHUNK_FILES, CHUNKS, ROOT, commit_all
from tests.services.hdfs_daemons import Hdfs

ODD_NAMES = ["a b.jpg", "100%.jpg", "%20.jpg", "x[1].jpg", "{y}*?.jpg", "#z.jpg", "é日.jpg", "n\nl"]


class Folder:
    """A folder of a test's own."""

    def __init__(self, hdfs: Hdfs) -> None:
        self.client = InsecureClient(hdfs.web_uri, user="root")
        self.root = f"/{uuid4().hex}"
        self.uri = f"{hdfs.uri}{self.root}"

    def put(self, name: str, content: bytes = b"x") -> str:
        self.client.write(f"{self.root}/{name}", content, overwrite=True)
        return f"{self.uri}/{name}"


@pytest.fixture
def folder(hdfs: Hdfs) -> Iterator[Folder]:
    one = Folder(hdfs)
    yield one
    one.client.delete(one.root, recursive=True)


def test_every_name_that_hdfs_allows_is_listed_as_it_is(
    spark: SparkSession, folder: Folder
) -> None:
    paths = [folder.put(f"deep/er {number}/{name}") for number, name in enumerate(ODD_NAMES)]
    listing = list_files(spark, folder.uri)
    assert listing["path"].to_pylist() == sorted(paths)


def test_size_and_time_are_those_of_the_name_node(spark: SparkSession, folder: Folder) -> None:
    folder.put("five.jpg", b"12345")
    status = folder.client.status(f"{folder.root}/five.jpg")
    (row,) = list_files(spark, folder.uri).to_pylist()
    assert row["file_size_bytes"] == 5
    assert row["mtime"].timestamp() * 1000 == pytest.approx(status["modificationTime"], abs=0.1)


def test_hidden_names_below_the_input_are_left_out_and_those_above_are_not(
    spark: SparkSession, folder: Folder
) -> None:
    kept = folder.put("_landing/.night/seen.jpg")
    for name in ("_SUCCESS", ".x.jpg", "b.jpg._COPYING_", "_temporary/c.jpg", ".staging/d.jpg"):
        folder.put(f"_landing/.night/{name}")
    assert list_files(spark, f"{folder.uri}/_landing/.night")["path"].to_pylist() == [kept]


def test_a_glob_names_folders_and_files(spark: SparkSession, folder: Folder) -> None:
    kept = [folder.put("2026-01/a.jpg"), folder.put("2026-02/b/c.jpg"), folder.put("2026-03.jpg")]
    folder.put("2025-12/d.jpg")
    folder.put("2026-04/_hidden.jpg")
    assert list_files(spark, f"{folder.uri}/2026-*")["path"].to_pylist() == kept


def test_one_file_has_one_text_however_it_is_spelled(spark: SparkSession, hdfs: Hdfs) -> None:
    spellings = [f"{hdfs.uri}/a/b.jpg", f"{hdfs.uri}//a/./b.jpg/", f"{hdfs.uri}/x/../a/b.jpg"]
    port = hdfs.uri.rpartition(":")[2]
    spellings.append(f"hdfs://someone@127.0.0.1:{port}/a/b.jpg")
    texts = {qualify(spark, spelling, env_local=False) for spelling in spellings}
    assert texts == {f"{hdfs.uri}/a/b.jpg"}


def test_a_missing_folder_is_an_input_error(spark: SparkSession, folder: Folder) -> None:
    with pytest.raises(InputError, match="There is no input"):
        list_files(spark, f"{folder.uri}/nowhere")


@pytest.fixture(params=["looked up by name", "listed with their folders"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in which a reader finds its files, whatever their number."""
    few = 10**6 if request.param == "looked up by name" else 0
    monkeypatch.setattr("storage.reading.FEW_FILES", few)


@pytest.mark.usefixtures("reading")
def test_content_is_read_by_explicit_path_and_no_other_file_is_opened(
    spark: SparkSession, hdfs: Hdfs, folder: Folder
) -> None:
    contents = {folder.put(f"in/{name}", name.encode()): name.encode() for name in ODD_NAMES}
    folder.put("in/other.jpg", b"not asked for")
    reader = BinaryReader(spark, list(contents))
    mark = hdfs.audit_mark()
    rows = reader.frame(list(contents), partitions=2).collect()
    assert {row["path"]: bytes(row["content"]) for row in rows} == contents
    assert not [path for path in hdfs.opened_files(mark) if path.endswith("other.jpg")]


def test_a_few_files_are_found_without_listing_what_lies_beside_them(
    spark: SparkSession, hdfs: Hdfs, folder: Folder
) -> None:
    wanted = folder.put("in/a.jpg")
    folder.put("in/below/b.jpg")
    mark = hdfs.audit_mark()
    assert len(BinaryReader(spark, [wanted]).frame([wanted], partitions=1).collect()) == 1
    listed = hdfs.audited("listStatus", mark)
    assert all(path == wanted.removeprefix(hdfs.uri) for path in listed)


@pytest.mark.usefixtures("reading")
def test_a_file_that_has_grown_beyond_the_limit_is_left_out_unopened(
    spark: SparkSession, hdfs: Hdfs, folder: Folder
) -> None:
    grown, kept = folder.put("grown.jpg", b"x"), folder.put("kept.jpg", b"123")
    reader = BinaryReader(spark, [grown, kept], max_file_bytes=3)
    folder.put("grown.jpg", b"1234")
    mark = hdfs.audit_mark()
    rows = reader.frame([grown, kept], partitions=1).collect()
    assert [row["path"] for row in rows] == [kept]
    assert hdfs.opened_files(mark) == [kept.removeprefix(hdfs.uri)]


@pytest.mark.usefixtures("reading")
def test_partitions_hold_equally_many_files_whatever_their_sizes(
    spark: SparkSession, folder: Folder
) -> None:
    paths = [folder.put(f"{n}.jpg", b"x" * 10 ** (n % 5)) for n in range(12)]
    frame = BinaryReader(spark, paths).frame(paths, partitions=3)
    assert [len(part) for part in frame.rdd.glom().collect()] == [4, 4, 4]


@pytest.mark.usefixtures("reading")
def test_python_works_on_a_partitions_first_files_while_spark_reads_the_next(
    spark: SparkSession, folder: Folder
) -> None:
    paths = [folder.put(f"{n}.jpg") for n in range(40)]

    def sizes(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from (pa.RecordBatch.from_pydict({"rows": [batch.num_rows]}) for batch in batches)

    frame = BinaryReader(spark, paths).frame(paths, partitions=1)
    found = [row["rows"] for row in frame.mapInArrow(sizes, "rows bigint").collect()]
    assert sum(found) == 40
    assert max(found) <= 16


@pytest.mark.usefixtures("reading")
def test_a_file_without_bytes_is_told_as_empty(spark: SparkSession, folder: Folder) -> None:
    path = folder.put("empty.jpg", b"")
    assert BinaryReader(spark, [path]).frame([path], partitions=1).collect() == []
    assert probe_unread(spark, [path])[path][0] == "empty"


@pytest.mark.usefixtures("reading")
def test_a_file_that_vanished_is_left_out_and_told_as_vanished(
    spark: SparkSession, folder: Folder
) -> None:
    before, after, kept = (folder.put(f"{name}.jpg") for name in ("before", "after", "kept"))
    folder.client.delete(f"{folder.root}/before.jpg")
    reader = BinaryReader(spark, [before, after, kept])
    folder.client.delete(f"{folder.root}/after.jpg")
    rows = reader.frame([before, after, kept], partitions=1).collect()
    assert [row["path"] for row in rows] == [kept]
    told = probe_unread(spark, [before, after])
    assert {path: reason for path, (reason, _) in told.items()} == {
        before: "vanished",
        after: "vanished",
    }


@pytest.mark.usefixtures("reading")
def test_a_folder_that_vanished_takes_only_its_own_files_along(
    spark: SparkSession, folder: Folder
) -> None:
    gone, kept = folder.put("gone/a.jpg"), folder.put("kept/b.jpg")
    folder.client.delete(f"{folder.root}/gone", recursive=True)
    rows = BinaryReader(spark, [gone, kept]).frame([gone, kept], partitions=1).collect()
    assert [row["path"] for row in rows] == [kept]
    assert BinaryReader(spark, [gone]).frame([gone], partitions=1).collect() == []


def test_two_processes_that_commit_the_same_keys_at_once_double_nothing(
    spark: SparkSession, folder: Folder, tmp_path: Path
) -> None:
    lake = open_lake(spark, f"{folder.uri}/lake", batch_depth=0)
    arguments = ["-m", "tests.services.committing", lake.uri, "there", str(tmp_path)]
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT) as other:
        results = commit_all(lake, "here", tmp_path)
        assert other.wait() == 0
    rows = lake.captions().collect()
    assert len({row["path"] for row in rows}) == len(rows) == CHUNKS * CHUNK_FILES + 2
    assert all(sum(result) == CHUNK_FILES for result in results)
