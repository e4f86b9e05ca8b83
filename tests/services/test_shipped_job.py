"""The real job on a standalone cluster whose executors can't see the checkout.

There is one executor, so that a task which fails there has nowhere else to go.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hdfs import InsecureClient

from models.package import ModelPackage
from tests.captioning import captions, photograph
from tests.faulty_model import CRASH
from tests.services.checkout import ROOT
from tests.services.cluster import WorkerSize, running_cluster
from tests.services.hdfs_daemons import Hdfs
from tests.services.hiding import takes_package, takes_root

pytestmark = [takes_package, takes_root]


FAULTY_DAEMON = """\
import pyspark.daemon, udfs.daemon
from faulty_model import FaultyModel

if __name__ == "__main__":
    FaultyModel()()  # puts its decoder in place
    pyspark.daemon.manager()
"""


def test_one_executor_captions_with_what_was_shipped_all_but_a_file_that_kills_its_worker(
    hdfs: Hdfs, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    night = f"/{tmp_path.name}/night"
    client = InsecureClient(hdfs.web_uri, user="root")
    contents = {f"{seed}.png": photograph(seed) for seed in range(6)} | {"killer.png": CRASH}
    for name, content in contents.items():
        client.write(f"{night}/{name}", content)
    cluster_folder = tmp_path / "cluster"
    cluster_folder.mkdir()
    size = WorkerSize(cores=2, memory="1g")
    with running_cluster(cluster_folder, size=size, hidden=ROOT) as cluster:
        options = ["--master", cluster.uri, "--executor-memory", "700m", "--driver-memory", "1g"]
        options += faulty_decoder(tmp_path / "faults")
        job = ["caption_images", "--env", "standalone", "--precision", "float32"]
        job += ["--input", f"{hdfs.uri}{night}", "--lake", f"file://{tmp_path}/lake"]
        job += ["--model", str(tiny_package.directory)]
        result = subprocess.run(
            [str(ROOT / "spark-submit.sh"), *options, *job],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    rows = captions(tmp_path / "lake")
    assert [row["status"] for row in rows] == ["captioned"] * 6 + ["rejected"]
    assert (rows[-1]["reason"], rows[-1]["detail"]) == (
        "worker_killed",
        "its process died of SIGSEGV",
    )


def faulty_decoder(folder: Path) -> list[str]:
    """Put a decoder that really crashes where executors see it; return Spark's options for it."""
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "faulty_model.py", folder)
    (folder / "faulty_daemon.py").write_text(FAULTY_DAEMON)
    path = f"spark.executorEnv.PYTHONPATH=code:{folder}"
    return ["--conf", path, "--conf", "spark.python.daemon.module=faulty_daemon"]
