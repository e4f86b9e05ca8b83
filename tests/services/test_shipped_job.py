"""The real job on a standalone cluster whose executors can't see the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from models.package import ModelPackage
from tests.captioning import captions, fill
from tests.services.checkout import ROOT
from tests.services.cluster import WorkerSize, running_cluster

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / "dist" / "env.tar.gz").exists(), reason="Nothing to ship: run `make package`."
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="Hiding the checkout takes root: use sudo."),
]


def test_executors_caption_with_what_was_shipped(
    tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "night", 6)
    cluster_folder = tmp_path / "cluster"
    cluster_folder.mkdir()
    size = WorkerSize(cores=2, memory="1g")
    with running_cluster(cluster_folder, size=size, hidden=ROOT) as cluster:
        options = ["--master", cluster.uri, "--executor-memory", "700m", "--driver-memory", "1g"]
        job = ["caption_images", "--env", "standalone", "--precision", "float32"]
        job += ["--input", f"file://{tmp_path}/night", "--lake", f"file://{tmp_path}/lake"]
        job += ["--model", str(tiny_package.directory)]
        result = subprocess.run(
            [str(ROOT / "spark-submit.sh"), *options, *job],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert [row["status"] for row in captions(tmp_path / "lake")] == ["captioned"] * 6
