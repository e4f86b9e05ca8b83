"""The analysts' notebook, executed against a lake that the job made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from models.package import ModelPackage
from tests.captioning import captions, fill, photograph, run_job

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "explore_captions.ipynb"
Output = dict[str, Any]


@pytest.fixture(scope="module")
def lake(
    spark: SparkSession, tiny_package: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Three photographs and two rejects, captioned in two runs."""
    folder = tmp_path_factory.mktemp("notebook")
    fill(folder / "night", 3)
    (folder / "night" / "page.jpg").write_text("<html>not found</html>")
    run_job(spark, tiny_package, input=str(folder / "night"), lake=str(folder / "lake"))
    whole = photograph(99)
    (folder / "night" / "half #1.png").write_bytes(whole[: len(whole) // 2])
    run_job(spark, tiny_package, input=str(folder / "night"), lake=str(folder / "lake"))
    return folder / "lake"


@pytest.fixture(scope="module")
def outputs(lake: Path) -> list[list[Output]]:
    """Each code cell's outputs, in order."""
    word = next(row["caption"] for row in captions(lake) if row["caption"]).split()[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLAKE_LAKE", str(lake))
        patch.setenv("CAPTIONLAKE_SEARCH", word)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        notebook = read_notebook()
        NotebookClient(notebook, timeout=180, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def read_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def text_of(outputs: list[Output]) -> str:
    data = [output.get("data", {}) for output in outputs]
    return "\n".join(one.get("text/html", one.get("text/plain", "")) for one in data)


def test_every_photograph_stands_beside_its_caption(
    lake: Path, outputs: list[list[Output]]
) -> None:
    shown = text_of(outputs[2])
    told = [row for row in captions(lake) if row["status"] == "captioned"]
    assert shown.count("<img") == len(told) == 3
    assert all(row["caption"] in shown and Path(row["path"]).name in shown for row in told)


def test_a_search_finds_only_captions_with_the_word(
    lake: Path, outputs: list[list[Output]]
) -> None:
    told = [row for row in captions(lake) if row["caption"]]
    word = told[0]["caption"].split()[-1]
    expected = sum(word in row["caption"].split() for row in told)
    assert text_of(outputs[3]).count("<img") == expected >= 1


def test_rejects_are_charted_by_reason(outputs: list[list[Output]]) -> None:
    assert any("image/png" in output.get("data", {}) for output in outputs[4])
    table = text_of(outputs[4])
    assert "not_an_image" in table
    assert "truncated" in table


def test_throughput_is_charted_by_run(outputs: list[list[Output]]) -> None:
    assert any("image/png" in output.get("data", {}) for output in outputs[5])
    assert text_of(outputs[5]).count("succeeded") == 2


def test_the_repository_holds_no_outputs() -> None:
    notebook = read_notebook()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)
