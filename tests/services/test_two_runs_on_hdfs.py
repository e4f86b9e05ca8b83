"""Whole runs started together, in processes of their own, over overlapping batches on HDFS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hdfs import InsecureClient

from models.package import ModelPackage
from tests.captioning import photograph
from tests.faults.delta_over_http import DeltaOverHttp, Row
from tests.faults.observer import Observer
from tests.services.hdfs_daemons import Hdfs
from tests.services.submitting import Submission, wait_until

pytestmark = pytest.mark.timeout(900)  # seconds; two Spark starts side by side

Submit = Callable[..., Submission]
BATCH_FILES = 40
CHUNK_FILES = 8
STAGGER_SECONDS = 5.0  # less than a Spark start: both work at the same time


class Night:
    """Three batches and a lake; one run takes the first two, another the last two."""

    def __init__(self, hdfs: Hdfs, submit: Submit, package: ModelPackage, *, root: str) -> None:
        self.client = InsecureClient(hdfs.web_uri, user="root")
        self.root = root
        self._uri = f"{hdfs.uri}{root}"
        self._submit = submit
        self._package = package
        for batch in range(3):
            for seed in range(batch * BATCH_FILES, (batch + 1) * BATCH_FILES):
                self.client.write(f"{root}/in/{batch}/{seed:03d}.png", photograph(seed))

    def start(self, run_id: str, batches: str) -> Submission:
        return self._submit(
            *("caption_images", "--input", f"{self._uri}/in/{batches}", "--lake"),
            *(f"{self._uri}/lake", "--run-id", run_id, "--chunk-files", str(CHUNK_FILES)),
            *("--batch-depth", "1", "--precision", "float32"),
            *("--model", str(self._package.directory)),
            folder=self._package.directory.parent,
        )

    def maintain(self) -> Submission:
        return self._submit(
            *("maintain_tables", "--lake", f"{self._uri}/lake"),
            folder=self._package.directory.parent,
        )

    def run_both(self, *, maintained: bool = False) -> tuple[Observer, dict[str, Row]]:
        """Start both at once; return what a reader saw meanwhile, and the rows of the runs.

        Where asked, the tables are maintained as soon as there are small files to compact.
        """
        observer = Observer(self.client, f"{self.root}/lake/captions", chunk_files=CHUNK_FILES)
        with observer.watching():
            started = [self.start("first", "{0,1}")]
            time.sleep(STAGGER_SECONDS)
            started.append(self.start("second", "{1,2}"))
            if maintained:
                wait_until(lambda: len(observer.rows) > CHUNK_FILES or started[0].is_over)
                started.append(self.maintain())
            for one in started:
                code, _, errors = one.wait()
                assert code == 0, errors
        runs = DeltaOverHttp(self.client, f"{self.root}/lake/runs").to_the_end()
        return observer, {run["run_id"]: run for run in runs}


@contextmanager
def no_claims(night: Night) -> Iterator[None]:
    """Take every claim away within a second, so that no run can wait for another's end."""
    folder = f"{night.root}/lake/_captionlake/claims"
    stop = threading.Event()

    def sweep() -> None:
        seen: set[str] = set()
        while not stop.wait(0.5):
            listed = night.client.list(folder, status=True)
            # One that is still being written has no length yet.
            claims = {
                name for name, file in listed if name.endswith(".json") and file["length"] > 0
            }
            for name in claims & seen:
                night.client.delete(f"{folder}/{name}")
            seen = claims

    night.client.makedirs(folder)
    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        yield
    finally:
        stop.set()
        sweeper.join()


def check_table(observer: Observer) -> None:
    assert observer.complaints == []
    assert len(observer.rows) == 3 * BATCH_FILES
    assert {row["status"] for row in observer.rows.values()} == {"captioned"}


def test_the_later_run_waits_for_the_earlier_and_maintenance_disturbs_neither(
    hdfs: Hdfs, submit: Submit, tiny_package: ModelPackage
) -> None:
    night = Night(hdfs, submit, tiny_package, root="/waiting")
    observer, runs = night.run_both(maintained=True)
    check_table(observer)
    assert {run["state"] for run in runs.values()} == {"succeeded"}
    (care,) = (runs.pop(name) for name in list(runs) if name.startswith("maintain_tables"))
    assert care["started_at"] < max(run["ended_at"] for run in runs.values())
    later = max(runs.values(), key=lambda run: run["already_done"])
    assert later["already_done"] == BATCH_FILES
    assert sorted(run["captioned"] for run in runs.values()) == [BATCH_FILES, 2 * BATCH_FILES]


def test_without_claims_the_table_is_right_all_the_same(
    hdfs: Hdfs, submit: Submit, tiny_package: ModelPackage
) -> None:
    night = Night(hdfs, submit, tiny_package, root="/unclaimed")
    with no_claims(night):
        observer, runs = night.run_both()
    check_table(observer)
    assert {run["state"] for run in runs.values()} == {"succeeded"}
    assert all(run["found"] == 2 * BATCH_FILES for run in runs.values())
