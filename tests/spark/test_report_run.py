"""A run's page, made from real tables and photographs, and looked at by a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pyspark.sql import SparkSession

from conf.errors import InputError
from conf.reporting import ReportSettings
from jobs.report_data import read_run
from jobs.report_run import log_to_mlflow, report
from models.package import ModelPackage
from storage.exclusions import ExclusionList
from storage.forgetting import Withdrawal, withdraw
from storage.lake import Lake, open_existing_lake
from tests.captioning import captions, fill, photograph, run_job

SCRIPT = "<script>document.title='taken'<img src=x onerror=alert(1)>.png".replace("/", "")
PHONE, DESKTOP = 390, 1280
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
TITLE = re.compile(r"<title>(.*?)</title>")


@pytest.fixture(scope="module")
def night(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with photographs in `in` and a lake with two runs over them."""
    folder = tmp_path_factory.mktemp("night")
    fill(folder / "in" / "a", 6)
    arguments: dict[str, Any] = {"input": str(folder / "in"), "lake": str(folder / "lake")}
    run_job(spark, tiny_package, run_id="before", **arguments)
    fill(folder / "in" / "b", 4, first_seed=50)
    (folder / "in" / "b" / SCRIPT).write_bytes(photograph(99))
    (folder / "in" / "b" / f"broken-{'long' * 40}.jpg").write_bytes(photograph(98)[:300])
    (folder / "in" / "b" / "page.jpg").write_text("<html>")
    run_job(spark, tiny_package, run_id="night:1", **arguments)
    return folder


@pytest.fixture(scope="module")
def page(spark: SparkSession, night: Path) -> Path:
    lake = open_existing_lake(spark, f"file:{night}/lake")
    uri = report(lake, read_run(lake, "night:1", photographs=12))
    return Path(uri.removeprefix("file:"))


def test_the_page_lies_beside_the_tables_and_is_the_same_when_made_again(
    spark: SparkSession, night: Path, page: Path
) -> None:
    assert page == night / "lake" / "reports" / "night%3A1.html"
    before = page.read_bytes()
    lake = open_existing_lake(spark, f"file:{night}/lake")
    report(lake, read_run(lake, "night:1", photographs=12))
    assert page.read_bytes() == before


def test_it_tells_this_runs_counts_reasons_and_captions(night: Path, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "13 found = 6 already done + 5 captioned + 2 rejected" in text
    assert ">truncated<" in text
    assert ">not_an_image<" in text
    of_run = [row for row in captions(night / "lake") if row["run_id"] == "night:1"]
    assert all(f"<b>{row['caption']}</b>" in text for row in of_run if row["caption"])
    assert text.count("data:image/jpeg;base64,") == 2 * 5  # at random and by score


def test_an_unknown_run_and_one_that_captioned_nothing_are_refused(lake: Lake) -> None:
    with pytest.raises(InputError, match="no captioning run never"):
        read_run(lake, "never", photographs=1)


def test_a_withdrawn_photograph_is_not_on_the_page(lake: Lake, night: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "lake")
    shutil.copytree(night / "lake", tmp_path / "lake")
    mine = f"file:{night}/in/b/00050.png"
    shown = read_run(lake, "night:1", photographs=12)
    assert mine in {row["path"] for row in shown.chosen.all()}
    withdraw(lake, Withdrawal(frozenset([mine]), frozenset()), run_id="m")
    left = read_run(lake, "night:1", photographs=12)
    assert mine not in {row["path"] for row in left.chosen.all()}
    assert left.speech.images == shown.speech.images - 1
    assert ExclusionList(lake.spark, lake.exclusions_uri).now().holds_path(mine)


def test_mlflow_gets_figures_and_a_page_without_photographs_once(
    spark: SparkSession, night: Path, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    lake = open_existing_lake(spark, f"file:{night}/lake")
    data = read_run(lake, "night:1", photographs=12)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for _ in range(2):
            log_to_mlflow(data, ReportSettings(tracking_uri=uri))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("caption_images")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.data.metrics["found"], run.data.metrics["rejected"]) == (13, 2)
    (copy,) = tmp_path.rglob("report.html")
    text = copy.read_text(encoding="utf-8")
    assert "13 found" in text
    assert "00050.png" not in text
    assert not any(f">{row['caption']}<" in text for row in captions(night / "lake"))


def browser() -> str:
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is missing. Install it (Debian: apt-get install chromium).")
    return found


def browse(page: Path, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]
    command += [f"--user-data-dir={folder}/profile", "--enable-logging=stderr", "--v=0"]
    command += ["--disable-background-networking", "--no-first-run", *options]
    url = page.as_uri()
    return subprocess.run([*command, url], capture_output=True, text=True, timeout=120, check=True)


def wide_copy(page: Path, folder: Path) -> Path:
    """The page with a script that writes its measures into the title, let through by no policy."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    measure = (
        "<script>addEventListener('load',()=>{document.title=JSON.stringify({"
        "scroll:document.documentElement.scrollWidth,inner:innerWidth,"
        "pictures:[...document.images].filter(i=>{i.loading='eager';return i.src}).length,"
        "fetched:performance.getEntriesByType('resource').filter(e=>!e.name.startsWith('data:'))"
        ".length,scripts:document.scripts.length,taken:document.title==='taken'})})</script>"
    )
    (folder / "measured.html").write_text(text.replace("</body>", f"{measure}</body>"))
    return folder / "measured.html"


def in_frame(page: Path, width: int, folder: Path) -> Path:
    """A window can't be as narrow as a phone, a frame in it can."""
    (folder / "frame.html").write_text(
        f"<title></title><iframe src='{page.name}' width={width} height=800></iframe><script>"
        "addEventListener('load',()=>setTimeout(()=>{document.title="
        "document.querySelector('iframe').contentDocument.title},200))</script>"
    )
    return folder / "frame.html"


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_browser_fetches_nothing_runs_nothing_and_scrolls_only_down(
    page: Path, tmp_path: Path, width: int
) -> None:
    framed = in_frame(wide_copy(page, tmp_path), width, tmp_path)
    size = f"--window-size={width + 100},900"
    allowed = ("--allow-file-access-from-files", "--virtual-time-budget=3000", "--dump-dom")
    done = browse(framed, size, *allowed, folder=tmp_path)
    title = TITLE.search(done.stdout)
    assert title is not None
    measured = title.group(1).replace("&quot;", '"')
    assert measured == (
        f'{{"scroll":{width},"inner":{width},"pictures":10,"fetched":0,"scripts":1,"taken":false}}'
    )


def test_a_browser_has_nothing_to_complain_of(page: Path, tmp_path: Path) -> None:
    done = browse(page, "--dump-dom", folder=tmp_path)
    assert "CONSOLE" not in done.stderr
    assert "&lt;script&gt;" in done.stdout


def test_light_and_dark_are_both_drawn(page: Path, tmp_path: Path) -> None:
    light, dark = (screenshot(page, tmp_path, scheme) for scheme in (1, 0))
    assert light.shape == dark.shape == (800, PHONE + 110, 3)
    assert light.mean() > 200
    assert dark.mean() < 80


def screenshot(page: Path, folder: Path, scheme: int) -> npt.NDArray[np.uint8]:
    shot = folder / f"{scheme}.png"
    options = (f"--screenshot={shot}", f"--blink-settings=preferredColorScheme={scheme}")
    browse(page, f"--window-size={PHONE + 110},800", *options, folder=folder)
    return np.asarray(cv2.imread(str(shot)), np.uint8)
