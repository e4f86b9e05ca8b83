"""The registry against a real MLflow store in a SQLite file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from conf.environments import load_environment
from conf.errors import ModelError
from conf.evaluation import ManageSettings
from conf.resolve import Resolved
from jobs import manage_models
from jobs.stopping import Stop
from models.package import ModelPackage, open_package
from models.registry import (
    list_versions,
    promote,
    promote_if_better,
    register,
    resolve_model,
    roll_back,
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking URI of this test's own; artifacts go to ./mlruns."""
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def add(package: ModelPackage, store: str, *, cider: float, dev_set: str = "flickr") -> int:
    figures = {"cider": cider, "bleu_4": 0.2}
    return register(package, figures=figures, dev_set=dev_set, tracking_uri=store)


def must_not_measure(_: ModelPackage) -> Mapping[str, float]:
    raise AssertionError("the champion's figures on this dev set are known")


def champion(store: str) -> int | None:
    versions = list_versions(tracking_uri=store)
    return next((one.number for one in versions if one.is_champion), None)


def test_versions_are_gated_promoted_rolled_back_and_fetched(
    tiny_package: ModelPackage, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = add(tiny_package, store, cider=0.50)
    assert champion(store) is None
    assert promote_if_better(first, margin=0.01, measure=must_not_measure, tracking_uri=store)

    worse = add(tiny_package, store, cider=0.505)
    assert not promote_if_better(worse, margin=0.01, measure=must_not_measure, tracking_uri=store)
    assert champion(store) == first

    better = add(tiny_package, store, cider=0.52)
    assert promote_if_better(better, margin=0.01, measure=must_not_measure, tracking_uri=store)
    assert champion(store) == better

    fetched = resolve_model("models:/captioner@champion", tracking_uri=store)
    assert open_package(fetched).version == tiny_package.version
    by_number = resolve_model(f"models:/captioner/{worse}", tracking_uri=store)
    assert open_package(by_number).version == tiny_package.version

    assert roll_back(tracking_uri=store) == first
    assert champion(store) == first
    promote(worse, tracking_uri=store)
    assert champion(store) == worse

    settings = ManageSettings.model_validate({"tracking_uri": store})
    manage_models.main(Resolved(settings, load_environment("local"), {}), Stop())
    told = capsys.readouterr().out
    assert "0.505" in told
    assert told.count("champion") == 1


def test_figures_of_another_dev_set_do_not_count(tiny_package: ModelPackage, store: str) -> None:
    first = add(tiny_package, store, cider=0.9, dev_set="easy")
    promote_if_better(first, margin=0.01, measure=must_not_measure, tracking_uri=store)
    second = add(tiny_package, store, cider=0.6, dev_set="hard")
    measured: list[str] = []

    def measure(package: ModelPackage) -> Mapping[str, float]:
        measured.append(package.version)
        return {"cider": 0.5}

    assert promote_if_better(second, margin=0.01, measure=measure, tracking_uri=store)
    assert measured == [tiny_package.version]


def test_what_the_registry_lacks_is_one_clear_line(tiny_package: ModelPackage, store: str) -> None:
    add(tiny_package, store, cider=0.5)
    for uri, culprit in {
        "models:/captioner@champion": "alias champion not found",
        "models:/captioner/9": "version=9",
        "models:/nobody/1": "nobody",
        "models:/captioner": "models:/captioner names no version",
    }.items():
        with pytest.raises(ModelError, match=culprit) as raised:
            resolve_model(uri, tracking_uri=store)
        assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="no earlier champion"):
        roll_back(tracking_uri=store)


def test_a_spoilt_artifact_is_refused(tiny_package: ModelPackage, store: str) -> None:
    number = add(tiny_package, store, cider=0.5)
    for artifact in Path("mlruns").rglob("decoder.bin"):
        artifact.write_bytes(b"other")
    with pytest.raises(ModelError, match=r"decoder\.bin differs"):
        open_package(resolve_model(f"models:/captioner/{number}", tracking_uri=store))


def test_a_path_needs_no_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys; from models.registry import resolve_model;"
        f"print(resolve_model({str(tmp_path)!r}), 'mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path), "False"]


def test_a_logged_model_holds_no_code_and_no_pickle(tiny_package: ModelPackage, store: str) -> None:
    add(tiny_package, store, cider=0.5)
    files = [path for path in Path("mlruns").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {"", ".json", ".h5", ".xml", ".bin", ".md"}
    description = next(path for path in files if path.name == "MLmodel").read_text()
    assert "signature" in description
    assert "python_function" not in description
