"""A real Airflow of its own environment: a SQLite database, this repository's DAG, short delays."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.services.submitting import ROOT

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
DAG_ID = "nightly_captions"
# A cluster policy: Airflow applies it to every task that it loads, and the DAG stays as it is.
POLICY = """\
from datetime import timedelta

def task_policy(task):
    task.retry_delay = timedelta(seconds=1)
    if task.task_id == "await_batch":
        task.poke_interval = 10  # shorter, Airflow confuses two looks
"""
# Stands in for the checkout: goes wrong as the file `faults` says, one word per captioning try.
UNRELIABLE = """\
#!/usr/bin/env bash
fault=none
[[ " $SKIPPED_JOBS " != *" $1 "* ]] || exit 0
if [[ $1 == caption_images && -s {faults} ]]; then
  fault=$(head -n 1 {faults}) && sed -i 1d {faults}
fi
case $fault in
  died) exit 0 ;; # the driver never worked, and success is reported
  lost) '{script}' "$@" && exit 1 ;; # the driver did its work, and failure is reported
  *) exec '{script}' "$@" ;;
esac
"""


class Task(NamedTuple):
    """State of one task of one night, as Airflow's database has it."""

    state: str | None
    tries: int


def run_id(night: str) -> str:
    """Return the id that the DAG gives the run of a night."""
    return f"{DAG_ID}-{night.replace('-', '')}T000000"


class AirflowHome:
    """A folder with Airflow's database and settings."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.faults = folder / "faults"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "CAPTIONLAKE_HOME": str(folder / "checkout"),
            "SKIPPED_JOBS": "",
            **variables,
        }
        self._write_settings()
        self.run("db", "migrate")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of Airflow's commands to its end; its output holds the tasks' logs."""
        return subprocess.run(
            [str(AIRFLOW), *arguments],
            env=self.environment | variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )

    def tasks(self, night: str) -> Mapping[str, Task]:
        """Return the night's tasks by name, or nothing while it has no run."""
        query = """
            SELECT task_id, ti.state, try_number FROM task_instance ti JOIN dag_run dr
            ON ti.run_id = dr.run_id AND ti.dag_id = dr.dag_id WHERE date(logical_date) = ?
        """
        return {name: Task(state, tries) for name, state, tries in self._select(query, night)}

    def state(self, night: str) -> str | None:
        """Return the state of the night's DAG run; None before it has one."""
        run = self._dag_run(night)
        return run[1] if run else None

    def log(self, night: str, task: str, *, attempt: int) -> str:
        """Return the log of one try of a task."""
        run = self._dag_run(night)
        assert run is not None
        folder = self.folder / "logs" / f"dag_id={DAG_ID}" / f"run_id={run[0]}" / f"task_id={task}"
        return (folder / f"attempt={attempt}.log").read_text(encoding="utf-8")

    def _dag_run(self, night: str) -> tuple[str, str] | None:
        query = "SELECT run_id, state FROM dag_run WHERE date(logical_date) = ?"
        return next(iter(self._select(query, night)), None)

    def _select(self, query: str, *values: str) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.folder}/airflow.db?mode=ro", uri=True)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def _write_settings(self) -> None:
        (self.folder / "config").mkdir(parents=True)
        (self.folder / "config" / "airflow_local_settings.py").write_text(POLICY)
        script = self.folder / "checkout" / "spark-submit.sh"
        script.parent.mkdir()
        script.write_text(UNRELIABLE.format(faults=self.faults, script=ROOT / "spark-submit.sh"))
        script.chmod(0o755)
