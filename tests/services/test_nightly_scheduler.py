"""Three nights under a real scheduler: a bad batch, a lost worker, a task killed by its user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from models.package import ModelPackage
from tests.services.airflow_home import AIRFLOW, DAG_ID, AirflowHome, Task, run_id
from tests.services.airflow_services import AirflowServices, running_airflow
from tests.services.hdfs_daemons import Hdfs
from tests.services.nights import Site, crops
from tests.services.submitting import paused, processes, wait_until

pytestmark = [
    pytest.mark.timeout(900),  # seconds; several Spark starts
    pytest.mark.skipif(not AIRFLOW.exists(), reason="No Airflow: run `tools/setup.sh airflow`."),
]
IMAGES = 120
CHUNK = 2  # files: a job goes on for a while after its first commit
TODAY = datetime.now(UTC).date()
BAD, LOST, KILLED = ((TODAY - timedelta(days=days)).isoformat() for days in (5, 2, 1))


@pytest.fixture
def site(tmp_path: Path, hdfs: Hdfs) -> Site:
    site = Site(hdfs, f"/{tmp_path.name}")
    site.land(BAD, {**crops(4), "a.jpg": b"<html>", "b.jpg": b""})
    site.complete(BAD)
    site.land(LOST, crops(IMAGES, seed=1))
    site.land(KILLED, crops(IMAGES, seed=2))
    site.complete(KILLED)
    return site


@pytest.fixture
def home(tmp_path: Path, site: Site, tiny_package: ModelPackage) -> AirflowHome:
    return AirflowHome(
        tmp_path / "airflow",
        AIRFLOW_VAR_CAPTIONLAKE_MODEL=str(tiny_package.directory),
        CAPTIONLAKE_PRECISION="float32",
        CAPTIONLAKE_CHUNK_FILES=str(CHUNK),
        CAPTIONLAKE_FIRST_NIGHT=LOST,
        SKIPPED_JOBS="maintain_tables report_run",
        **site.variables(),
    )


@pytest.fixture
def airflow(home: AirflowHome, site: Site) -> Iterator[AirflowServices]:
    with running_airflow(home) as services:
        yield services
    for orphan in processes(site.root):
        orphan.kill()


def test_nights_that_go_wrong_end_as_they_should(
    site: Site, home: AirflowHome, airflow: AirflowServices
) -> None:
    wait_until(lambda: home.state(LOST) is not None)  # caught up by the schedule
    backfill(airflow, BAD, max_rejected_share=0.2)
    wait_until(lambda: home.state(BAD) == "failed")
    assert_a_bad_batch_fails_its_night(site, home)

    wait_until(lambda: state(home, LOST, "await_batch") == "up_for_reschedule")
    mark = site.hdfs.audit_mark()
    site.complete(LOST)
    wait_until(lambda: len(site.captions(LOST)) > 0)
    job = processes(run_id(LOST))
    lose_worker(job)
    with paused(job[-1]):  # its driver, so that it is still at work when the next try comes
        assert 0 < len(site.captions(LOST)) < IMAGES
        wait_until(lambda: home.tasks(LOST)["caption"] == Task("running", 2))
        wait_until(lambda: has_begun_captioning(LOST, other_than=job))
    wait_until(lambda: home.state(LOST) is not None and home.state(LOST) != "running")
    assert_a_lost_worker_costs_nothing(site, home, mark)

    wait_until(lambda: len(site.captions(KILLED)) > 0)
    airflow.fail(KILLED, "caption")
    wait_until(lambda: site.runs()[run_id(KILLED)]["state"] != "running")
    wait_until(lambda: home.state(KILLED) == "failed")
    assert_a_killed_task_ends_its_run(site, home)


def assert_a_bad_batch_fails_its_night(site: Site, home: AirflowHome) -> None:
    assert home.tasks(BAD) == {
        "await_batch": Task("success", 1),
        "caption": Task("failed", 1),  # another try would not mend it
        "maintain": Task("upstream_failed", 0),
        "report": Task("success", 1),
    }
    run = site.runs()[run_id(BAD)]
    assert (run["state"], run["captioned"], run["rejected"]) == ("failed", 4, 2)


def assert_a_lost_worker_costs_nothing(site: Site, home: AirflowHome, mark: int) -> None:
    assert home.state(LOST) == "success"
    assert home.tasks(LOST)["caption"] == Task("success", 2)
    assert "has already succeeded; nothing to do" in home.log(LOST, "caption", attempt=2)
    run = site.runs()[run_id(LOST)]
    assert (run["state"], run["captioned"], run["already_done"]) == ("succeeded", IMAGES, 0)
    paths = [row["path"] for row in site.captions(LOST)]
    assert len(paths) == len(set(paths)) == IMAGES
    opened = Counter(path for path in site.hdfs.opened_files(mark) if path.endswith(".jpg"))
    assert set(opened.values()) == {1}  # no photograph was read for a second inference


def assert_a_killed_task_ends_its_run(site: Site, home: AirflowHome) -> None:
    assert site.runs()[run_id(KILLED)]["state"] == "interrupted"
    assert 0 < len(site.captions(KILLED)) < IMAGES
    assert home.tasks(KILLED)["caption"] == Task("failed", 1)
    wait_until(lambda: not processes(run_id(KILLED)))
    assert site.claims() == []


def state(home: AirflowHome, night: str, task: str) -> str | None:
    tasks = home.tasks(night)
    return tasks[task].state if task in tasks else None


def backfill(airflow: AirflowServices, night: str, **conf: float) -> None:
    airflow.ask(
        "POST",
        "/api/v2/backfills",
        dag_id=DAG_ID,
        from_date=f"{night}T00:00:00Z",
        to_date=f"{night}T00:00:00Z",
        dag_run_conf=conf,
    )


def lose_worker(job: list[psutil.Process]) -> None:
    """Take Airflow's side of the task away: the process that runs it, and its supervisor."""
    task = job[0].parent()
    assert task is not None
    supervisor = task.parent()
    assert supervisor is not None
    supervisor.kill()
    task.kill()


def has_begun_captioning(night: str, *, other_than: list[psutil.Process]) -> bool:
    """Whether another job captions the night, and doesn't just look whether it is done."""
    others = [process for process in processes(run_id(night)) if process not in other_than]
    return any("caption_images" in process.info["cmdline"] for process in others)
