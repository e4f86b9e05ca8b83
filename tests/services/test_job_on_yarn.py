"""The real job on a real YARN whose containers can't see the checkout, settings as in conf/."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hdfs import InsecureClient

from models.package import ModelPackage
from tests.captioning import captions, photograph, runs
from tests.services.hdfs_daemons import Hdfs
from tests.services.hiding import takes_package, takes_root
from tests.services.submitting import Submission, wait_until
from tests.services.yarn_daemons import Yarn, running_yarn

pytestmark = [
    pytest.mark.timeout(900),  # seconds; Spark starts driver, application master and executors
    takes_package,
    takes_root,
]

Submit = Callable[..., Submission]
IMAGES, CHUNK = 96, 8


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory, hdfs: Hdfs) -> Iterator[Yarn]:
    with running_yarn(tmp_path_factory.mktemp("yarn"), hdfs) as started:
        yield started


@pytest.fixture
def caption(yarn: Yarn, hdfs: Hdfs, submit: Submit, tmp_path: Path) -> Callable[..., Submission]:
    """Submit the job from a night on HDFS into `tmp_path/lake`."""

    def submit_to_yarn(night: str, *options: str, before: tuple[str, ...] = ()) -> Submission:
        return submit(
            *("--conf", f"spark.yarn.jars=local:{yarn.spark_jars}/*"),
            *before,
            *("caption_images", "--env", "yarn", "--precision", "float32"),
            *("--input", f"{hdfs.uri}{night}", "--lake", f"file:{tmp_path}/lake"),
            *options,
            folder=tmp_path,
            HADOOP_CONF_DIR=str(yarn.configuration),
        )

    return submit_to_yarn


def night_of(hdfs: Hdfs, folder: Path) -> str:
    night = f"/{folder.name}/night"
    client = InsecureClient(hdfs.web_uri, user="root")
    for seed in range(IMAGES):
        client.write(f"{night}/{seed:03d}.png", photograph(seed))
    return night


def test_a_driver_within_the_cluster_finishes_what_a_terminated_one_outside_began(
    caption: Submit, yarn: Yarn, hdfs: Hdfs, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    night = night_of(hdfs, tmp_path)
    options = ("--model", str(tiny_package.directory), "--chunk-files", str(CHUNK))
    outside = caption(night, *options, "--run-id", "outside")
    outside.wait_for_line("images/s")
    outside.terminate()
    code, _, errors = outside.wait()
    assert code == 143, errors
    begun = captions(tmp_path / "lake")
    assert 0 < len(begun) < IMAGES
    assert runs(tmp_path / "lake")["outside"]["state"] == "interrupted"
    wait_until(lambda: yarn.applications()[-1]["state"] == "FINISHED")  # its containers are free

    archive = shutil.make_archive(str(tmp_path / "tiny"), "zip", tiny_package.directory)
    shipping = ("--deploy-mode", "cluster", "--archives", f"{archive}#my-model")
    inside = caption(night, "--model", "my-model", "--run-id", "inside", before=shipping)
    code, _, errors = inside.wait()
    assert code == 0, errors
    rows = captions(tmp_path / "lake")
    assert [row["status"] for row in rows] == ["captioned"] * IMAGES
    assert all(row in rows for row in begun)
    ended = runs(tmp_path / "lake")["inside"]
    assert (ended["state"], ended["already_done"]) == ("succeeded", len(begun))
