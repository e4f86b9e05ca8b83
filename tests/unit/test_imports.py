"""Imports point one way: jobs → storage, udfs, models, conf; conf is the leaf."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pandas.compat._optional import VERSIONS

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "conf": set[str](),
    "models": {"conf"},
    "udfs": {"models", "conf"},
    "storage": {"conf"},
    "jobs": {"storage", "udfs", "models", "conf"},
}
SPARK = {"pyspark", "delta", "py4j"}
MAY_USE_SPARK = {"udfs", "storage", "jobs"}


def imported_packages(source: Path) -> Iterator[str]:
    """Yield the top-level name of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively"
            yield (node.module or "").split(".")[0]


def imports_of(package: str) -> dict[str, set[str]]:
    sources = sorted((ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): set(imported_packages(path)) for path in sources}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    wrong = {path: names & forbidden for path, names in imports_of(package).items()}
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize("package", sorted(set(MAY_IMPORT) - MAY_USE_SPARK))
def test_spark_stays_out_of_models_and_settings(package: str) -> None:
    wrong = {path: names & SPARK for path, names in imports_of(package).items()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_no_job_takes_the_place_of_a_library() -> None:
    """A driver finds modules beside its job first, also those that pandas only asks for."""
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    libraries = {name.partition(".")[0] for name in VERSIONS} | sys.stdlib_module_names
    assert jobs & libraries == set()


def test_dags_import_nothing_but_airflow() -> None:
    foreign = {path: names - sys.stdlib_module_names for path, names in imports_of("dags").items()}
    assert foreign != {}
    assert {path: names for path, names in foreign.items() if names != {"airflow"}} == {}


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    source = tmp_path / "late.py"
    source.write_text("def load():\n    import pyspark.sql\n    from jobs.cli import run\n")
    assert set(imported_packages(source)) == {"pyspark", "jobs"}


def test_jobs_run_without_spark_exactly_if_they_open_no_session() -> None:
    script = (ROOT / "spark-submit.sh").read_text(encoding="utf-8")
    listed = script.partition("readonly WITHOUT_SPARK='")[2].partition("'")[0].split()
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "jobs").glob("*.py")}
    jobs = {name: text for name, text in sources.items() if '__name__ == "__main__"' in text}
    opening = {name for name, text in jobs.items() if "from jobs.session import" in text}
    assert set(listed) == set(jobs) - opening
