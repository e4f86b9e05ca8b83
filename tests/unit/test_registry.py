"""The registry against a real MLflow store in a SQLite file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conf.environments import load_environment
from conf.errors import ModelError
from conf.evaluation import ManageSettings
from conf.resolve import Resolved
from jobs import manage_models
from jobs.stopping import Stop
from models.gate import Measurement, Verdict
from models.package import ModelPackage, open_package
from models.registry import (
    list_versions,
    promote,
    promote_if_better,
    register,
    resolve_model,
    roll_back,
)


class Store(NamedTuple):
    """A registry that all tests here share, since making one takes seconds."""

    uri: str
    folder: Path

    def add(
        self,
        package: ModelPackage,
        name: str,
        *,
        cider: float,
        dev_set: str = "flickr",
        beam_width: int = 3,
        precision: str = "int8",
    ) -> int:
        return register(
            package,
            figures={"cider": cider, "bleu_4": 0.2},
            measurement=Measurement(dev_set, beam_width, precision),
            name=name,
            tracking_uri=self.uri,
        )

    def promote_if_better(
        self, number: int, name: str, *, measure: Callable[[ModelPackage], Mapping[str, float]]
    ) -> bool:
        return self.judge(number, name, measure=measure).is_champion

    def judge(
        self, number: int, name: str, *, measure: Callable[[ModelPackage], Mapping[str, float]]
    ) -> Verdict:
        return promote_if_better(
            number, margin=0.01, measure=measure, name=name, tracking_uri=self.uri
        )

    def champion(self, name: str) -> int | None:
        versions = list_versions(name=name, tracking_uri=self.uri)
        return next((one.number for one in versions if one.is_champion), None)

    def files(self) -> set[Path]:
        return {path for path in (self.folder / "mlruns").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    import mlflow

    folder = tmp_path_factory.mktemp("registry")
    uri, before = f"sqlite:///{folder / 'mlflow.db'}", mlflow.get_tracking_uri()
    with contextlib.chdir(folder):  # MLflow puts artifacts into ./mlruns
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("registry")  # what another test chose is in another store
        mlflow.set_tracking_uri(before)
        yield Store(uri, folder)


def must_not_measure(_: ModelPackage) -> Mapping[str, float]:
    raise AssertionError("the champion's figures on this dev set are known")


def test_versions_are_gated_promoted_rolled_back_and_fetched(
    tiny_package: ModelPackage, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "gated"
    first = store.add(tiny_package, name, cider=0.50)
    assert store.champion(name) is None
    assert store.promote_if_better(first, name, measure=must_not_measure)

    worse = store.add(tiny_package, name, cider=0.505)
    assert not store.promote_if_better(worse, name, measure=must_not_measure)
    assert store.champion(name) == first

    better = store.add(tiny_package, name, cider=0.52)
    assert store.promote_if_better(better, name, measure=must_not_measure)
    assert store.champion(name) == better

    for uri in (f"models:/{name}@champion", f"models:/{name}/{worse}"):
        fetched = resolve_model(uri, tracking_uri=store.uri)
        assert open_package(fetched).version == tiny_package.version

    assert roll_back(name=name, tracking_uri=store.uri) == first
    assert store.champion(name) == first
    promote(worse, name=name, tracking_uri=store.uri)
    assert store.champion(name) == worse

    settings = ManageSettings.model_validate({"name": name, "tracking_uri": store.uri})
    manage_models.main(Resolved(settings, load_environment("local"), {}), Stop())
    told = capsys.readouterr().out
    assert "0.505" in told
    assert "int8, beam 3" in told
    assert told.count("champion") == 1


def test_without_a_margin_an_equal_version_stays_behind_and_a_better_one_does_not(
    tiny_package: ModelPackage, store: Store
) -> None:
    name = "margin"
    for cider, is_champion in ((0.5, True), (0.5, False), (0.501, True)):
        number = store.add(tiny_package, name, cider=cider)
        verdict = promote_if_better(
            number, margin=0.0, measure=must_not_measure, name=name, tracking_uri=store.uri
        )
        assert verdict.is_champion is is_champion


def test_figures_of_another_dev_set_do_not_count(tiny_package: ModelPackage, store: Store) -> None:
    name = "compared"
    first = store.add(tiny_package, name, cider=0.9, dev_set="easy")
    store.promote_if_better(first, name, measure=must_not_measure)
    second = store.add(tiny_package, name, cider=0.6, dev_set="hard")
    measured: list[str] = []

    def measure(package: ModelPackage) -> Mapping[str, float]:
        measured.append(package.version)
        return {"cider": 0.5}

    assert store.promote_if_better(second, name, measure=measure)
    assert measured == [tiny_package.version]


@pytest.mark.parametrize("how", [{"beam_width": 1}, {"precision": "float32"}])
def test_figures_that_were_measured_otherwise_do_not_count(
    tiny_package: ModelPackage, store: Store, how: dict[str, Any]
) -> None:
    name = f"measured-by-{next(iter(how))}"
    first = store.add(tiny_package, name, cider=0.60, **how)
    store.promote_if_better(first, name, measure=must_not_measure)
    second = store.add(tiny_package, name, cider=0.63)
    assert not store.promote_if_better(second, name, measure=lambda _: {"cider": 0.63})
    assert store.champion(name) == first


def test_a_version_that_does_not_say_how_it_was_measured_is_measured_again(
    tiny_package: ModelPackage, store: Store
) -> None:
    import mlflow

    name = "untold"
    first = store.add(tiny_package, name, cider=0.9)
    store.promote_if_better(first, name, measure=must_not_measure)
    client = mlflow.MlflowClient(store.uri, store.uri)
    for tag in ("measured_beam_width", "measured_precision"):
        client.delete_model_version_tag(name, str(first), tag)
    second = store.add(tiny_package, name, cider=0.6)
    assert store.promote_if_better(second, name, measure=lambda _: {"cider": 0.5})


def test_a_champion_that_cannot_be_opened_stays(
    tiny_package: ModelPackage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "of-another-opencv"
    first = store.add(tiny_package, name, cider=0.5, dev_set="old")
    store.promote_if_better(first, name, measure=must_not_measure)
    second = store.add(tiny_package, name, cider=0.9, dev_set="new")
    with monkeypatch.context() as patch:
        patch.setattr("models.package.preprocessing_fingerprint", lambda **_: "f" * 64)
        verdict = store.judge(second, name, measure=must_not_measure)
    assert not verdict.is_champion
    assert "another image preprocessing" in str(verdict.obstacle)
    assert store.champion(name) == first


def test_a_champion_whose_files_are_gone_stays(tiny_package: ModelPackage, store: Store) -> None:
    name, before = "emptied", store.files()
    first = store.add(tiny_package, name, cider=0.5, dev_set="old")
    store.promote_if_better(first, name, measure=must_not_measure)
    for file in store.files() - before:
        file.unlink()
    second = store.add(tiny_package, name, cider=0.9, dev_set="new")
    verdict = store.judge(second, name, measure=must_not_measure)
    assert verdict.obstacle is not None
    assert store.champion(name) == first


def test_what_the_registry_lacks_is_one_clear_line(
    tiny_package: ModelPackage, store: Store
) -> None:
    store.add(tiny_package, "lonely", cider=0.5)
    for uri, culprit in {
        "models:/lonely@champion": "alias champion not found",
        "models:/lonely/9": "version=9",
        "models:/nobody/1": "nobody",
        "models:/lonely": "models:/lonely names no version",
    }.items():
        with pytest.raises(ModelError, match=culprit) as raised:
            resolve_model(uri, tracking_uri=store.uri)
        assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="no earlier champion"):
        roll_back(name="lonely", tracking_uri=store.uri)


def test_what_is_logged_holds_no_code_and_is_verified(
    tiny_package: ModelPackage, store: Store
) -> None:
    before = store.files()
    number = store.add(tiny_package, "spoilt", cider=0.5)
    files = store.files() - before
    assert {path.suffix for path in files} <= {"", ".json", ".h5", ".xml", ".bin", ".md"}
    description = next(path for path in files if path.name == "MLmodel").read_text()
    assert "signature" in description
    assert "python_function" not in description

    next(path for path in files if path.name == "decoder.bin").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"decoder\.bin differs"):
        open_package(resolve_model(f"models:/spoilt/{number}", tracking_uri=store.uri))


def test_a_path_needs_no_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys; from models.registry import resolve_model;"
        f"print(resolve_model({str(tmp_path)!r}), 'mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path), "False"]


def test_registering_where_there_is_no_registry_fails_in_one_line(
    tiny_package: ModelPackage, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(ModelError, match=r"The model registry .* failed: ") as raised:
        Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).add(tiny_package, "late", cider=0.5)
    assert "\n" not in str(raised.value)
