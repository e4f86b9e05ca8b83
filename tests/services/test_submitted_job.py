"""The job as a scheduler runs it: the demonstration, wrong use, SIGTERM and SIGKILL mid-work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hdfs import InsecureClient

from models.package import ModelPackage
from tests.captioning import captions, fill, photograph, runs
from tests.services.hdfs_daemons import Hdfs
from tests.services.submitting import Submission, wait_until

pytestmark = pytest.mark.timeout(900)  # seconds; several Spark starts each

Submit = Callable[..., Submission]
IMAGES = 240
CHUNK = 8
JAVA_WARNING = "Using incubator modules"  # Java says so whenever Spark starts


def caption(submit: Submit, package: ModelPackage, folder: Path, *, run_id: str) -> Submission:
    return submit(
        "caption_images",
        *("--input", str(folder / "in"), "--lake", str(folder / "lake")),
        *("--model", str(package.directory), "--precision", "float32"),
        *("--chunk-files", str(CHUNK), "--run-id", run_id),
        folder=folder,
    )


def committed(folder: Path) -> int:
    first = folder / "lake" / "captions" / "_delta_log" / f"{0:020d}.json"
    return len(captions(folder / "lake")) if first.exists() else 0


def test_the_demonstration_captions_sample_photographs_and_then_has_nothing_to_do(
    tmp_path: Path, submit: Submit
) -> None:
    code, output, errors = submit("caption_images", folder=tmp_path).wait()
    assert code == 0, errors
    rows = captions(tmp_path / "lake")
    assert len(rows) >= 8
    assert all(row["status"] == "captioned" and "<unk>" not in row["caption"] for row in rows)
    assert all(Path(row["path"]).name in output for row in rows)
    assert "images/s" in output
    assert "research use only" in output
    code, output, errors = submit("caption_images", folder=tmp_path).wait()
    assert code == 0, errors
    assert "Nothing is pending" in output
    assert captions(tmp_path / "lake") == rows


@pytest.mark.parametrize(
    ("arguments", "code", "culprit"),
    [
        (("--no-such-option",), 2, "--no-such-option"),
        (("--input", "gone", "--lake", "lake"), 3, "gone"),
        (("--input", "in", "--lake", "lake", "--model", "no-model"), 4, "no-model"),
        (("--input", "in", "--lake", "lake", "--device", "gpu"), 4, "OpenVINO"),
        (("--input", "in"), 2, "--lake"),
        (("--run-id", "nightly"), 2, "--input"),
    ],
)
def test_wrong_use_ends_in_one_line_with_its_exit_code(
    tmp_path: Path, submit: Submit, arguments: tuple[str, ...], code: int, culprit: str
) -> None:
    fill(tmp_path / "in", 1)
    ended, _, errors = submit("caption_images", *arguments, folder=tmp_path).wait()
    assert ended == code
    assert culprit in errors
    ours = [line for line in errors.splitlines() if line.strip() and JAVA_WARNING not in line]
    assert len(ours) == 1, errors
    assert not (tmp_path / "lake").exists()


def test_a_file_that_another_user_may_not_read_is_rejected_and_its_neighbours_captioned(
    tmp_path: Path, submit: Submit, hdfs: Hdfs, tiny_package: ModelPackage
) -> None:
    root = f"/{tmp_path.name}"
    client = InsecureClient(hdfs.web_uri, user="root")
    for seed in range(4):
        client.write(f"{root}/in/{seed}.png", photograph(seed))
    client.set_permission(f"{root}/in/1.png", "000")
    code, _, errors = submit(
        "caption_images",
        *("--input", f"{hdfs.uri}{root}/in", "--lake", str(tmp_path / "lake")),
        *("--model", str(tiny_package.directory), "--precision", "float32"),
        folder=tmp_path,
        HADOOP_USER_NAME="stranger",
    ).wait()
    assert code == 0, errors
    rows = captions(tmp_path / "lake")
    assert [row["reason"] for row in rows] == [None, "unreadable", None, None]
    assert "ermission denied" in rows[1]["detail"]


def test_sigterm_ends_the_run_at_a_chunk_and_the_next_run_continues(
    tmp_path: Path, submit: Submit, tiny_package: ModelPackage
) -> None:
    fill(tmp_path / "in", IMAGES)
    first = caption(submit, tiny_package, tmp_path, run_id="first")
    wait_until(lambda: committed(tmp_path) > 0)
    first.terminate()
    code, _, errors = first.wait()
    cut = committed(tmp_path)
    assert code == 143, errors
    assert 0 < cut < IMAGES
    assert runs(tmp_path / "lake")["first"]["state"] == "interrupted"
    code, _, errors = caption(submit, tiny_package, tmp_path, run_id="second").wait()
    assert code == 0, errors
    assert_all_once(tmp_path)
    assert runs(tmp_path / "lake")["second"]["already_done"] == cut


def test_sigterm_ends_a_run_that_waits_for_another(
    tmp_path: Path, submit: Submit, tiny_package: ModelPackage
) -> None:
    fill(tmp_path / "in", CHUNK)
    claims = tmp_path / "lake" / "_captionlake" / "claims"
    claims.mkdir(parents=True)
    (claims / "other~1.json").write_text('{"batches": ["in"]}')

    def is_waiting() -> bool:
        (claims / "other~1.beat").touch()  # the other is alive, however long this start takes
        return any(claims.glob("waiting~*.json"))

    waiting = caption(submit, tiny_package, tmp_path, run_id="waiting")
    wait_until(is_waiting)
    waiting.wait_for_line("Waiting for run other")
    waiting.terminate()
    code, _, errors = waiting.wait()
    assert code == 143, errors
    assert "Traceback" not in errors
    assert not any(claims.glob("waiting~*"))
    assert runs(tmp_path / "lake") == {}


def test_after_sigkill_the_next_run_continues_and_marks_the_dead_one(
    tmp_path: Path, submit: Submit, tiny_package: ModelPackage
) -> None:
    fill(tmp_path / "in", IMAGES)
    first = caption(submit, tiny_package, tmp_path, run_id="first")
    wait_until(lambda: committed(tmp_path) > 0)
    first.kill_all()
    cut = committed(tmp_path)
    assert 0 < cut < IMAGES
    assert runs(tmp_path / "lake")["first"]["state"] == "running"
    code, _, errors = caption(submit, tiny_package, tmp_path, run_id="second").wait()
    assert code == 0, errors
    assert_all_once(tmp_path)
    states = {name: row["state"] for name, row in runs(tmp_path / "lake").items()}
    assert states == {"first": "interrupted", "second": "succeeded"}


def assert_all_once(folder: Path) -> None:
    paths = [row["path"] for row in captions(folder / "lake")]
    assert len(paths) == len(set(paths)) == IMAGES
