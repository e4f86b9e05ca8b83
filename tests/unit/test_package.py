from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conf.errors import ModelError
from models import package as package_module
from models.identity import pipeline_version
from models.package import MANIFEST, ModelPackage, open_package, seal_package


@pytest.fixture
def copy(tiny_package: ModelPackage, tmp_path: Path) -> Path:
    """A package of this test's own to break."""
    return Path(shutil.copytree(tiny_package.directory, tmp_path / "copy"))


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_copy_is_the_same_model(tiny_package: ModelPackage, copy: Path) -> None:
    assert open_package(copy).version == tiny_package.version


def test_a_changed_file_is_refused_by_name(copy: Path) -> None:
    with (copy / "openvino" / "decoder.bin").open("r+b") as stream:
        stream.write(b"\x01")
    with pytest.raises(ModelError, match=r"openvino/decoder\.bin differs from its SHA-256"):
        open_package(copy)


def test_a_missing_file_is_refused_by_name(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json: No such file"):
        open_package(copy)


def test_a_manifest_without_a_needed_file_is_refused(copy: Path) -> None:
    (copy / "model.weights.h5").unlink()
    seal_package(copy)
    with pytest.raises(ModelError, match=r"doesn't list model\.weights\.h5"):
        open_package(copy)


def test_a_file_that_the_manifest_does_not_list_is_not_used(copy: Path) -> None:
    (copy / "extra.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match=r"has no extra\.py"):
        open_package(copy).file("extra.py")


def test_an_unknown_format_version_is_refused(copy: Path) -> None:
    edit_manifest(copy, format_version=99)
    with pytest.raises(ModelError, match="format version 99, and this software reads 1"):
        open_package(copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../b", "a\\b", "", "./a"])
def test_a_manifest_can_not_lead_out_of_the_folder(copy: Path, name: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    edit_manifest(copy, files=manifest["files"] | {name: "0" * 64})
    with pytest.raises(ModelError, match="which is no file of a package"):
        open_package(copy)


def test_a_link_can_not_lead_out_of_the_folder(copy: Path, tmp_path: Path) -> None:
    (copy / "MODEL_CARD.md").rename(tmp_path / "elsewhere.md")
    (copy / "MODEL_CARD.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(ModelError, match=r"MODEL_CARD\.md leads out of the folder"):
        open_package(copy)


@pytest.mark.parametrize("content", ["", "[]", '{"format_version": 1}', "\x00"])
def test_what_is_no_manifest_is_refused(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_text(content)
    with pytest.raises(ModelError, match="is not a manifest"):
        open_package(copy)


def test_no_such_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere is not a readable model package") as raised:
        open_package(tmp_path / "nowhere")
    assert "\n" not in str(raised.value)
    assert raised.value.remedy


def test_another_preprocessing_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_fingerprint(*, size: int) -> str:
        return "f" * 64

    monkeypatch.setattr(package_module, "preprocessing_fingerprint", other_fingerprint)
    with pytest.raises(ModelError, match=r"another image preprocessing .*here ffffffffffff"):
        open_package(copy)


def test_a_tokenizer_of_another_size_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").write_text('{"format": "words-ptb-lower", "words": ["a"]}')
    seal_package(copy)
    with pytest.raises(ModelError, match="has 5 tokens and the model 16"):
        open_package(copy)


def test_a_config_of_another_kind_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"name": "x"}')
    seal_package(copy)
    with pytest.raises(ModelError, match=r"config\.json can't be read"):
        open_package(copy)


def test_the_pipeline_version_names_model_decoding_and_precision(
    tiny_package: ModelPackage, copy: Path
) -> None:
    version = pipeline_version(tiny_package, beam_width=1, precision="int8")
    assert len(version) == 16
    assert int(version, 16)
    assert version == pipeline_version(open_package(copy), beam_width=1, precision="int8")
    assert version != pipeline_version(tiny_package, beam_width=3, precision="int8")
    assert version != pipeline_version(tiny_package, beam_width=1, precision="bf16")


def test_another_model_is_another_pipeline(copy: Path, tiny_package: ModelPackage) -> None:
    (copy / "MODEL_CARD.md").write_text("another card")
    seal_package(copy)
    changed = pipeline_version(open_package(copy), beam_width=1, precision="int8")
    assert changed != pipeline_version(tiny_package, beam_width=1, precision="int8")
