from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from pyspark.sql import SparkSession

from conf.environments import load_environment
from conf.errors import InputError
from conf.evaluation import EvaluateSettings
from conf.resolve import Resolved
from jobs.evaluate_captioner import main
from jobs.stopping import Stop
from models.images import preprocess_image
from models.metrics import score_captions, split_by_stanford
from models.package import ModelPackage
from models.runtime import load_runtime
from tests.captioning import fill


@pytest.fixture
def keep_session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job stops its session at the end; this one is the other tests' too."""
    monkeypatch.setattr(SparkSession, "stop", lambda _: None)


def run_job(package: ModelPackage, folder: Path, **settings: Any) -> None:
    chosen = EvaluateSettings(
        model=str(package.directory),
        precision="float32",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        page=str(folder / "page.html"),
        **settings,
    )
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
