from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from conf.environments import load_environment
from conf.errors import InputError, UsageError
from conf.evaluation import EvaluateSettings
from conf.resolve import Resolved
from jobs.evaluate_captioner import main
from jobs.evaluation_report import log_evaluation
from jobs.stopping import Stop
from models.images import preprocess_image
from models.metrics import score_captions, split_by_stanford
from models.package import ModelPackage
from models.runtime import load_runtime
from tests.captioning import fill


def run_job(package: ModelPackage, folder: Path, **settings: Any) -> None:
    fields = {
        "model": str(package.directory),
        "precision": "float32",
        "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
        "page": str(folder / "page.html"),
    }
    chosen = EvaluateSettings(**(fields | settings))
    main(Resolved(chosen, load_environment("local"), {}), Stop())


def write_captions(path: Path, captions: dict[str, list[str]]) -> None:
    lines = [f"{name}\t{text}" for name, texts in captions.items() for text in texts]
    path.write_text("\n".join(lines) + "\n")


def test_figures_and_page_are_those_of_the_pipeline(
    keep_session: None,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = fill(tmp_path / "in", 6)
    (tmp_path / "in" / "bad.png").write_text("no image")
    known = {file.name: [f"a dog runs {place}", "a man"] for place, file in enumerate(files[:5])}
    write_captions(tmp_path / "captions.tsv", known | {"bad.png": ["x"], "gone.png": ["y"]})

    run_job(
        tiny_package,
        tmp_path,
        images=str(tmp_path / "in"),
        captions=str(tmp_path / "captions.tsv"),
    )

    runtime = load_runtime(tiny_package, precision="float32")
    side = runtime.image_size
    pixels = [preprocess_image(file.read_bytes(), size=side).pixels for file in files[:5]]
    said = [
        one.text for one in runtime.caption(np.stack([one for one in pixels if one is not None]))
    ]
    expected = score_captions(said, list(known.values()), split=split_by_stanford).figures
    run = mlflow.search_runs(experiment_names=["evaluate_captioner"]).iloc[0]
    assert run["metrics.cider"] == pytest.approx(expected.cider)
    assert run["metrics.bleu_1"] == pytest.approx(expected.bleu_1)
    assert run["metrics.rejected"] == 1
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 15
    assert all(text in page for text in said)
    told = capsys.readouterr().out
    assert "PTB" in told
    assert "SPICE is left out" in told
    assert "gone.png" in told
    assert "1 photographs without captions" in told


def test_captions_of_other_photographs_are_refused(
    keep_session: None, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 2)
    write_captions(tmp_path / "captions.tsv", {"other.jpg": ["a dog"]})
    with pytest.raises(InputError, match=r"No photograph below .* has a caption"):
        run_job(
            tiny_package,
            tmp_path,
            images=str(tmp_path / "in"),
            captions=str(tmp_path / "captions.tsv"),
        )


def test_missing_captions_are_refused(
    keep_session: None, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    fill(tmp_path / "in", 2)
    with pytest.raises(InputError, match="nothing"):
        run_job(
            tiny_package,
            tmp_path,
            images=str(tmp_path / "in"),
            captions=str(tmp_path / "nothing.tsv"),
        )


def evaluation_in(folder: Path, *, names: str | None = None) -> dict[str, str]:
    """Write three photographs with captions, and return the options that name them."""
    files = fill(folder / "in", 3)
    write_captions(folder / "captions.tsv", {file.name: ["a dog", "a man"] for file in files})
    options = {"images": str(folder / "in"), "captions": str(folder / "captions.tsv")}
    if names is not None:
        (folder / "names.txt").write_text(names)
        options["names"] = str(folder / "names.txt")
    return options


def test_names_that_nobody_captioned_are_listed(
    keep_session: None,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = "00000.png\n00001.png\n00001.png\n\nmistyped.png\n"
    run_job(tiny_package, tmp_path, **evaluation_in(tmp_path, names=names))
    told = capsys.readouterr().out
    assert "1 names of --names without captions\n  mistyped.png\n" in told
    assert "photographs without captions" not in told


def test_lines_that_hold_no_caption_are_counted(
    keep_session: None,
    tiny_package: ModelPackage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = evaluation_in(tmp_path)
    with Path(options["captions"]).open("a") as file:
        file.write("00000.png without a tab\n\n00001.png\t \n")
    run_job(tiny_package, tmp_path, **options)
    assert "2 lines of" in caplog.text


def test_names_of_which_nobody_captioned_any_are_refused(
    keep_session: None, tiny_package: ModelPackage, tmp_path: Path
) -> None:
    options = evaluation_in(tmp_path, names="00000\n00001\n")
    with pytest.raises(InputError, match=r"None of the 2 names .*, such as 00000, has a caption"):
        run_job(tiny_package, tmp_path, **options)


@pytest.mark.parametrize("page", ["nowhere/page.html", "in"])
def test_a_page_that_could_not_be_written_is_refused_at_once(
    tiny_package: ModelPackage, tmp_path: Path, page: str
) -> None:
    options = evaluation_in(tmp_path)
    with pytest.raises(UsageError, match="--page"):
        run_job(tiny_package, tmp_path, page=str(tmp_path / page), **options)


def test_figures_outlive_photographs_that_go_and_a_page_that_fails(
    keep_session: None,
    tiny_package: ModelPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = evaluation_in(tmp_path)

    def lose_one(*values: Any) -> str | None:
        (tmp_path / "in" / "00001.png").unlink()
        (tmp_path / "page.html").mkdir()
        return log_evaluation(*values)

    monkeypatch.setattr("jobs.evaluate_captioner.log_evaluation", lose_one)
    with pytest.raises(InputError, match=r"Can't write .*page\.html"):
        run_job(tiny_package, tmp_path, **options)
    assert "cider" in capsys.readouterr().out
    (run,) = mlflow.search_runs(experiment_names=["evaluate_captioner"], output_format="list")
    assert run.data.metrics["images"] == 3


def test_a_store_that_cannot_be_opened_costs_a_warning(
    keep_session: None,
    tiny_package: ModelPackage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_text("no database")
    run_job(tiny_package, tmp_path, **evaluation_in(tmp_path))
    assert "MLflow keeps no run of this evaluation" in caplog.text
    assert (tmp_path / "page.html").exists()
