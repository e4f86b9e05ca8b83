"""Tell from the table `runs` whether a run succeeded and accounts for every file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from conf.errors import ReconciliationError
from conf.resolve import Resolved
from conf.scheduling import RunSettings
from jobs.cli import required, run_command
from jobs.stopping import Stop
from storage.without_spark import read_run, resolve_uri

JOB = "check_run"
DESCRIPTION = """\
Tell from its row in the table `runs` whether a run succeeded; starts no Spark.

A command's exit code can be lost, and in cluster mode it says little: the row is what counts.

exit codes: 0 it succeeded, 2 usage, 6 the file system doesn't answer, 8 it did not
"""
OUTCOMES = ("already_done", "captioned", "rejected", "excluded", "claimed_elsewhere")


def main(resolved: Resolved[RunSettings], _: Stop) -> None:
    """Read the run's row and judge it."""
    settings = resolved.settings
    required(settings, "lake", "run_id")
    lake = resolve_uri(str(settings.lake), env_local=resolved.environment.is_local)
    run_id = str(settings.run_id)
    row = read_run(lake, run_id)
    if row is None:
        raise ReconciliationError(
            f"{lake}/runs has no row for run {run_id}: its driver never began to work.",
            remedy="Run it again.",
        )
    judge(row)
    counts = " + ".join(f"{row[name]} {name.replace('_', ' ')}" for name in OUTCOMES)
    print(f"Run {run_id} succeeded: {row['found']} files = {counts}.")


def judge(row: Mapping[str, Any]) -> None:
    """Raise ReconciliationError unless the row tells of a run that accounts for every file."""
    run_id, state = row["run_id"], row["state"]
    if state != "succeeded":
        died = "; if nothing works on it, its driver has died" if state == "running" else ""
        raise ReconciliationError(f"Run {run_id} is {state}{died}.", remedy="Run it again.")
    accounted = sum(row[name] for name in OUTCOMES)
    if row["found"] != accounted or row["claimed_elsewhere"]:
        raise ReconciliationError(
            f"Run {run_id} found {row['found']} files and accounts for {accounted}, "
            f"{row['claimed_elsewhere']} of them left to other runs.",
            remedy="Run it again under a new run id.",
        )


if __name__ == "__main__":
    sys.exit(run_command(main, RunSettings, command=JOB, description=DESCRIPTION))
