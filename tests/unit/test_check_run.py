"""How a run is judged without Spark: by its row, never by what its command reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from conf.scheduling import BatchSettings, RunSettings
from jobs import check_batch, check_run
from jobs.cli import run_command

GOOD = {
    "run_id": "night",
    "state": "succeeded",
    "found": 10,
    "already_done": 3,
    "captioned": 6,
    "rejected": 1,
    "excluded": 0,
    "claimed_elsewhere": 0,
}


def write_runs(lake: Path, *rows: dict[str, Any]) -> None:
    table = pa.Table.from_pylist(list(rows))
    write_deltalake(str(lake / "runs"), table, partition_by=["run_id"], mode="overwrite")


def check(lake: object, *options: str, run_id: str = "night") -> int:
    arguments = ["--lake", str(lake), "--run-id", run_id, *options]
    return run_command(
        check_run.main, RunSettings, command="check_run", description="", arguments=arguments
    )


def ready(folder: object, *options: str) -> int:
    arguments = ["--input", str(folder), *options]
    return run_command(
        check_batch.main, BatchSettings, command="check_batch", description="", arguments=arguments
    )


def test_a_run_that_succeeded_and_adds_up_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path, {**GOOD, "run_id": "other", "state": "failed"}, GOOD)
    assert check(tmp_path) == 0
    assert "10 files = 3 already done + 6 captioned + 1 rejected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "running"}, "its driver has died"),
        ({"state": "failed"}, "is failed"),
        ({"state": "interrupted"}, "is interrupted"),
        ({"captioned": 5}, "found 10 files and accounts for 9"),
        ({"captioned": 5, "claimed_elsewhere": 1}, "1 of them left to other runs"),
        ({"run_id": "yesterday"}, "has no row for run night"),
    ],
)
def test_any_other_row_fails_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str
) -> None:
    write_runs(tmp_path, GOOD | change)
    assert check(tmp_path) == 8
    assert reason in capsys.readouterr().err


def test_a_run_id_that_can_not_be_is_wrong_use(tmp_path: Path) -> None:
    assert check(tmp_path, run_id="night' OR ''='") == 2


def test_a_lake_that_was_never_made_holds_no_run(tmp_path: Path) -> None:
    assert check(tmp_path / "nowhere") == 8


@pytest.mark.parametrize("folder", ["a night", "50%20 ü"])
def test_a_batch_is_complete_once_its_marker_is_there(tmp_path: Path, folder: str) -> None:
    batch = tmp_path / folder
    assert ready(f"file:{batch}") == 3
    batch.mkdir()
    assert ready(f"file:{batch}") == 3
    (batch / "_SUCCESS").touch()
    assert ready(f"file:{batch}") == 0
    assert ready(batch) == 0


def test_a_file_system_that_does_not_answer_is_a_fault_of_the_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ready("hdfs://127.0.0.1:1/landing") == 6
    assert check("hdfs://127.0.0.1:1/lake") == 6
    assert "Connection refused" in capsys.readouterr().err
    assert ready("ftp9://host/landing") == 6
    assert check("ofs://host/lake") == 6


def test_a_table_that_can_not_be_read_is_a_fault_of_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path, GOOD)
    for file in (tmp_path / "runs").rglob("*.parquet"):
        file.unlink()
    assert check(tmp_path) == 6
    assert "Can't read" in capsys.readouterr().err


def test_a_path_without_a_scheme_lies_where_the_jobs_look_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "_SUCCESS").touch()
    assert ready("landing") == 0
    assert ready("nothing/yet") == 3
    assert ready(tmp_path / "landing", "--env", "yarn") == 2  # of which file system?
    assert "HADOOP_CONF_DIR" in capsys.readouterr().err
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    (tmp_path / "core-site.xml").write_text(
        "<configuration><property><name>fs.defaultFS</name>"
        "<value>hdfs://127.0.0.1:1</value></property></configuration>"
    )
    assert ready("/landing", "--env", "yarn") == 6
    assert check("/lake", "--env", "yarn") == 6
    assert "hdfs://127.0.0.1:1/lake" in capsys.readouterr().err
    assert ready("landing", "--env", "yarn") == 2  # in which folder of it?
