"""A week of nights under a real Airflow on a real HDFS, caught up in one go and looked at after.

One night has a bad batch, one is killed by its user and cleared the next morning, one driver dies
unnoticed, one success gets lost, and one batch repeats photographs of an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from models.package import ModelPackage
from tests.services.airflow_home import AIRFLOW, AirflowHome, Task, run_id
from tests.services.airflow_services import running_airflow
from tests.services.hdfs_daemons import jars_missing, running_hdfs
from tests.services.nights import Site, crops
from tests.services.submitting import processes, wait_until

pytestmark = [
    pytest.mark.timeout(3000),  # seconds; three Spark starts a night
    pytest.mark.skipif(not AIRFLOW.exists(), reason="No Airflow: run `tools/setup.sh airflow`."),
]
TODAY = datetime.now(UTC).date()
WEEK = [(TODAY - timedelta(days=days)).isoformat() for days in range(7, 0, -1)]
QUIET, REPEATED, BAD, KILLED, DIED, LOST, LAST = WEEK
# One word for each start of caption_images, in the order of the nights.
FAULTS = ["none", "none", "none", "none", "died", "none", "lost"]
PATIENCE_SECONDS = 1500.0
BATCHES = {
    QUIET: crops(16, seed=1),
    REPEATED: {f"again-{name}": data for name, data in crops(16, seed=1).items()},
    BAD: {**crops(4, seed=2), "a.jpg": b"<html>", "b.jpg": b""},
    KILLED: crops(120, seed=3),
    DIED: crops(16, seed=4),
    LOST: crops(16, seed=5),
    LAST: crops(16, seed=6),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if missing := jars_missing():
        pytest.skip(missing)
    with running_hdfs(tmp_path_factory.mktemp("hdfs")) as hdfs:
        site = Site(hdfs, "/week")
        for night, files in BATCHES.items():
            site.land(night, files)
            site.complete(night)
        yield site


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, site: Site, tiny_package: ModelPackage
) -> AirflowHome:
    home = AirflowHome(
        tmp_path_factory.mktemp("week") / "airflow",
        AIRFLOW_VAR_CAPTIONLAKE_MODEL=str(tiny_package.directory),
        CAPTIONLAKE_PRECISION="float32",
        CAPTIONLAKE_CHUNK_FILES="4",
        CAPTIONLAKE_FIRST_NIGHT=QUIET,
        **site.variables(),
    )
    home.faults.write_text("\n".join(FAULTS) + "\n")
    return home


@pytest.fixture(scope="module")
def week(site: Site, home: AirflowHome) -> Iterator[Site]:
    """The week when all is over."""
    with running_airflow(home) as airflow:
        wait_until(lambda: len(site.captions(KILLED)) > 0, seconds=PATIENCE_SECONDS)
        airflow.fail(KILLED, "caption")
        wait_until(lambda: home.state(LAST) == "success", seconds=PATIENCE_SECONDS)
        airflow.clear(KILLED)
        wait_until(lambda: home.state(KILLED) == "success", seconds=PATIENCE_SECONDS)
        yield site
    for orphan in processes(site.root):
        orphan.kill()


def test_every_night_but_the_bad_one_succeeds(week: Site, home: AirflowHome) -> None:
    states = {night: home.state(night) for night in WEEK}
    assert states == {night: "failed" if night == BAD else "success" for night in WEEK}
    assert home.tasks(BAD)["caption"] == Task("failed", 1)
    assert home.tasks(DIED)["caption"] == Task("success", 2)
    assert home.tasks(LOST)["caption"] == Task("success", 2)


def test_every_photograph_of_the_week_has_one_row(week: Site) -> None:
    for night, files in BATCHES.items():
        rows = week.captions(night)
        names = [row["path"].rpartition("/")[2] for row in rows]
        assert sorted(names) == sorted(files)
        captioned = [row for row in rows if row["status"] == "captioned"]
        assert len(captioned) == len(files) - (2 if night == BAD else 0)


def test_the_same_photograph_has_the_same_caption_on_another_night(week: Site) -> None:
    captions = {
        night: {row["image_id"]: row["caption"] for row in week.captions(night)}
        for night in (QUIET, REPEATED)
    }
    assert captions[QUIET] == captions[REPEATED]


def test_the_runs_tell_what_happened(week: Site) -> None:
    runs = week.runs()
    states = {night: runs[run_id(night)]["state"] for night in WEEK}
    expected = dict.fromkeys(WEEK, "succeeded") | {BAD: "failed", KILLED: "interrupted"}
    assert states == expected
    second = runs[run_id(KILLED) + ".1"]
    assert (second["state"], second["captioned"] + second["already_done"]) == ("succeeded", 120)
    assert second["already_done"] > 0
    assert week.claims() == []


def test_every_night_has_its_page(week: Site) -> None:
    for night in WEEK:
        assert "<html" in week.report(run_id(night))
