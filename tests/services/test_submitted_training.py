"""Training as a team runs it: killed without warning, started again, and captioned with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from models.package import open_package
from models.registry import list_versions
from models.training.checkpoint import CHECKPOINT
from tests.captioning import captions
from tests.services.submitting import Submission, wait_until
from tests.training_data import COLOURS, SENTENCES

pytestmark = pytest.mark.timeout(1200)  # seconds; five submissions, each importing TensorFlow

Submit = Callable[..., Submission]
PHOTOGRAPHS, SIDE = 24, 32
FINETUNE = 1  # the second phase
NETWORK = "--width 16 --heads 2 --ffn 32 --depth 1 --grid-depth 0 --encoder-weights none"
PHASES = "--frozen-epochs 1 --finetune-epochs 12 --self-critical-epochs 1 --patience 99"
STEPS = "--batch-images 6 --views 1 --beam-width 2 --checkpoint-steps 2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Walls in three colours, five captions each; a photograph without any and a broken one."""
    (tmp_path / "images").mkdir()
    random, colours, lines = np.random.default_rng(5), list(COLOURS.items()), list[str]()
    for number in range(PHOTOGRAPHS + 1):
        name, colour = colours[number % 3]
        pixels = np.clip(colour[::-1] + random.integers(-20, 21, (40, 50, 3)), 0, 255)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels)
        lines += [f"{number}.png\t{text.format(name)}" for text in SENTENCES]
    del lines[-len(SENTENCES) :]  # of the last
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG and no more")
    lines += ["broken.png\tA wall .", "gone.png\tA wall ."]
    (tmp_path / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def train(submit: Submit, folder: Path, *, output: str) -> Submission:
    return submit(
        "train_captioner",
        *("--images", str(folder / "images"), "--captions", str(folder / "captions.tsv")),
        *("--output", str(folder / output), "--tracking-uri", store_of(folder)),
        *f"{NETWORK} {PHASES} {STEPS} --image-size {SIDE} --max-skipped-share 0.2".split(),
        folder=folder,
    )


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def runs_of(store: str) -> list[Run]:
    client = MlflowClient(store)
    names = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(names))


def phase_of(work: Path) -> int:
    """The phase that the work folder's checkpoint is of; -1 without one."""
    path = work / "training" / CHECKPOINT
    if not path.exists():
        return -1
    return int(json.loads(str(np.load(path)["facts"]))["progress"]["phase"])


def weights_of(package: Path) -> list[npt.NDArray[np.float32]]:
    found: list[npt.NDArray[np.float32]] = []
    with h5py.File(package / "model.weights.h5") as file:
        file.visititems(
            lambda _, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return found


def test_a_training_killed_and_started_again_ends_as_if_it_had_not_been(
    folder: Path, submit: Submit
) -> None:
    killed = train(submit, folder, output="killed")
    wait_until(lambda: killed.is_over or phase_of(folder / "killed-work") == FINETUNE)
    assert not killed.is_over
    killed.kill_all()
    assert not (folder / "killed").exists()
    for output in ("killed", "whole"):
        code, told, errors = train(submit, folder, output=output).wait()
        assert code == 0, errors
        assert "cider" in told.lower()

    found, expected = weights_of(folder / "killed"), weights_of(folder / "whole")
    assert len(found) == len(expected)
    assert all(map(np.array_equal, found, expected))
    skipped = (folder / "killed-work" / "skipped.tsv").read_text(encoding="utf-8")
    assert all(name in skipped for name in (f"{PHOTOGRAPHS}.png", "broken.png", "gone.png"))

    versions = list_versions(tracking_uri=store_of(folder))
    assert [one.is_champion for one in versions].count(True) == 1
    runs = runs_of(store_of(folder))
    assert len(runs) == 2  # the killed training went on in its own
    assert all(run.info.status == "FINISHED" and "dev_cider" in run.data.metrics for run in runs)

    code, _, errors = submit(
        "caption_images",
        *("--input", str(folder / "images"), "--lake", str(folder / "lake")),
        *("--model", "models:/captioner@champion"),
        *("--tracking-uri", store_of(folder)),
        folder=folder,
    ).wait()
    assert code == 0, errors
    rows = captions(folder / "lake")
    assert len(rows) == PHOTOGRAPHS + 2
    champion = {open_package(folder / name).version for name in ("killed", "whole")}
    assert {row["model_version"] for row in rows} <= champion
