"""A training deletes nothing that isn't its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.environments import load_environment
from conf.errors import UsageError
from conf.resolve import Resolved
from conf.training import TrainSettings
from jobs import train_captioner
from jobs.stopping import Stop
from jobs.training_folders import claim_work, refuse_folders, refuse_work
from models.package import MANIFEST
from models.package_folder import refuse_foreign
from models.packaging import _replace


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What the check knows a package by: a manifest and the files that it lists."""
    folder = tmp_path / "package"
    (folder / "openvino").mkdir(parents=True)
    (folder / "openvino" / "encoder.xml").write_text("<net/>", encoding="utf-8")
    files = {"openvino/encoder.xml": "0" * 64}
    text = json.dumps({"format_version": 1, "files": files})
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


def photographs(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "dog.jpg").write_bytes(b"dog")
    return folder


def test_an_output_may_be_missing_empty_or_an_earlier_package(
    tmp_path: Path, package: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "missing", tmp_path / "empty", package):
        refuse_foreign(output)


def test_an_output_of_photographs_is_refused_naming_one(tmp_path: Path) -> None:
    output = photographs(tmp_path / "photos")
    with pytest.raises(UsageError, match=r"photos holds something else .*dog\.jpg"):
        refuse_foreign(output)


def test_a_package_with_something_beside_it_is_refused(package: Path) -> None:
    photographs(package / "photos")
    with pytest.raises(UsageError, match="holds more than a model package: photos"):
        refuse_foreign(package)


def test_a_manifest_of_something_else_makes_no_package(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"manifest_version": 3}', encoding="utf-8")
    with pytest.raises(UsageError, match="something else than a model package"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize("output", [".", "..", "/", "photos/.."])
def test_an_output_without_a_name_is_refused(output: str) -> None:
    with pytest.raises(UsageError, match="has no name of its own"):
        refuse_foreign(Path(output))


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="model is no folder"):
        refuse_foreign(tmp_path / "model")


def test_what_came_to_lie_at_the_output_during_training_is_kept(tmp_path: Path) -> None:
    output = photographs(tmp_path / "photos")
    (tmp_path / "writing" / "photos").mkdir(parents=True)
    with pytest.raises(UsageError, match="photos holds"):
        _replace(tmp_path / "writing" / "photos", output)
    assert (output / "dog.jpg").read_bytes() == b"dog"


@pytest.mark.parametrize("name", ["train", "dev", "training"])
def test_a_work_folder_with_a_foreign_folder_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    photographs(tmp_path / name)
    with pytest.raises(UsageError, match=f"holds a folder '{name}'"):
        claim_work(tmp_path)
    assert (tmp_path / name / "dog.jpg").exists()


def test_a_claimed_work_folder_is_known_again(tmp_path: Path) -> None:
    claim_work(tmp_path / "work")
    (tmp_path / "work" / "training").mkdir()
    claim_work(tmp_path / "work")


@pytest.mark.parametrize(
    ("sign", "text"),
    [("skipped.tsv", "name\treason\tdetail\r\n"), ("shards.json", '{"image_size": 224')],
)
def test_a_work_folder_from_before_the_mark_is_known(tmp_path: Path, sign: str, text: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / sign).write_text(text, encoding="utf-8")
    refuse_work(tmp_path)


def test_files_of_others_beside_the_work_are_no_hindrance(tmp_path: Path) -> None:
    photographs(tmp_path / "photos")
    claim_work(tmp_path)
    assert (tmp_path / "photos" / "dog.jpg").exists()


@pytest.mark.parametrize(
    ("output", "work", "why"),
    [
        ("out", "out", "lies inside --output"),
        ("out", "out/work", "lies inside --output"),
        ("work/train/out", "work", "which trainings delete"),
    ],
)
def test_folders_that_would_delete_each_other_are_refused(
    tmp_path: Path, output: str, work: str, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        refuse_folders(tmp_path / output, tmp_path / work)


@pytest.mark.parametrize("option", ["output", "work"])
def test_the_job_refuses_a_foreign_folder_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(train_captioner, "find_initial", lambda _: pytest.fail("went on"))
    photographs(tmp_path / "foreign" / "train")
    fields = {"output": str(tmp_path / "out"), option: str(tmp_path / "foreign")}
    settings = TrainSettings.model_validate(fields)
    with pytest.raises(UsageError, match="foreign holds"):
        train_captioner.main(Resolved(settings, load_environment("local"), {}), Stop())
