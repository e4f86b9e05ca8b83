"""One night in a real Airflow, on a real HDFS, with the real jobs on photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.package import ModelPackage
from tests.services.airflow_home import AIRFLOW, DAG_ID, AirflowHome, Task
from tests.services.hdfs_daemons import Hdfs
from tests.services.nights import Site, crops

pytestmark = [
    pytest.mark.timeout(900),  # seconds; several Spark starts
    pytest.mark.skipif(not AIRFLOW.exists(), reason="No Airflow: run `tools/setup.sh airflow`."),
]
NIGHT = "2026-11-23"
IMAGES = 24


def test_a_false_success_is_found_out_and_a_lost_success_is_found_again(
    tmp_path: Path, hdfs: Hdfs, tiny_package: ModelPackage
) -> None:
    site = Site(hdfs, f"/{tmp_path.name}")
    site.land(NIGHT, crops(IMAGES))
    site.complete(NIGHT)
    airflow = AirflowHome(
        tmp_path / "airflow",
        AIRFLOW_VAR_CAPTIONLAKE_MODEL=str(tiny_package.directory),
        CAPTIONLAKE_PRECISION="float32",
        **site.variables(),
    )
    airflow.faults.write_text("died\nlost\n")
    log = airflow.run("dags", "test", DAG_ID, NIGHT).stdout
    assert airflow.tasks(NIGHT) == {
        "await_batch": Task("success", 1),
        "caption": Task("success", 3),
        "maintain": Task("success", 1),
        "report": Task("success", 1),
    }, log
    run_id = f"{DAG_ID}-20261123T000000"
    assert f"has no row for run {run_id}" in log  # the first try, although it exited with 0
    assert log.count(f"Run {run_id} succeeded: {IMAGES} files") == 1  # the third, without Spark
    assert log.count("'caption_images'") == 2
    run = site.runs()[run_id]
    assert (run["state"], run["captioned"]) == ("succeeded", IMAGES)
    assert "<html" in site.report(run_id)
    paths = [row["path"] for row in site.captions(NIGHT)]
    assert len(paths) == len(set(paths)) == IMAGES
