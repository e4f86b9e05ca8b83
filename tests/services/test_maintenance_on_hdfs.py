"""Report and maintenance as a scheduler starts them, for a lake on a real HDFS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hdfs import InsecureClient
from pyspark.sql import SparkSession

from models.package import ModelPackage
from tests.captioning import photograph, run_job
from tests.services.hdfs_daemons import Hdfs
from tests.services.submitting import Submission

pytestmark = pytest.mark.timeout(900)  # seconds; several Spark starts
NAME = "a person's face [1] é.png"


class Place:
    """A folder of its own on the HDFS."""

    def __init__(self, hdfs: Hdfs) -> None:
        self.client = InsecureClient(hdfs.web_uri, user="root")
        self.root = f"/{uuid4().hex}"
        self.uri = f"{hdfs.uri}{self.root}"


@pytest.fixture
def place(hdfs: Hdfs) -> Iterator[Place]:
    one = Place(hdfs)
    yield one
    one.client.delete(one.root, recursive=True)


def contents(client: InsecureClient, folder: str) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    found = {}
    for where, _, names in client.walk(folder):
        for name in names:
            with client.read(f"{where}/{name}") as reader:
                found[f"{where}/{name}"] = reader.read()
    return found


def test_a_photograph_is_reported_on_withdrawn_and_gone(
    spark: SparkSession,
    place: Place,
    tiny_package: ModelPackage,
    submit: Callable[..., Submission],
    tmp_path: Path,
) -> None:
    client, root = place.client, place.root
    for seed, name in enumerate((NAME, "1.png", "2.png")):
        client.write(f"{root}/in/a/{name}", photograph(seed))
    lake, uri = f"{root}/lake", f"{place.uri}/lake"
    run_job(spark, tiny_package, input=f"{place.uri}/in", lake=uri, run_id="night")

    code, output, errors = submit(
        "report_run", "--lake", uri, "--run-id", "night", folder=tmp_path
    ).wait()
    assert code == 0, errors
    assert f"Report: {uri}/reports/night.html" in output
    page = contents(client, f"{lake}/reports")[f"{lake}/reports/night.html"]
    assert page.count(b"data:image/jpeg") == 2 * 3
    assert "é.png" in page.decode()

    client.write(f"{root}/requests", f"{place.uri}/in/a/{NAME}\n".encode())
    code, output, errors = submit(
        *("maintain_tables", "--lake", uri, "--forget-file", f"{place.uri}/requests"),
        *("--retention-hours", "0", "--unsafe-retention"),
        folder=tmp_path,
    ).wait()
    assert code == 0, errors
    assert "1 rows of withdrawn photographs" in output
    assert NAME not in output + errors
    left = contents(client, lake)
    assert f"{lake}/reports/night.html" not in left
    assert not [path for path, content in left.items() if b"a person's face" in content]
    rows = spark.read.format("delta").load(f"{uri}/captions").collect()
    assert sorted(row.path.rpartition("/")[2] for row in rows) == ["1.png", "2.png"]
