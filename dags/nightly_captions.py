"""Every night: wait for the day's batch, caption it, maintain the tables, publish the report.

Runs in Airflow's own environment and imports nothing of this project: each task is a command of
`spark-submit.sh`. `docs/airflow.md` tells how to install and configure it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import (
    DAG,
    BaseOperator,
    BaseSensorOperator,
    Context,
    CronDataIntervalTimetable,
    Param,
    TriggerRule,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException

HOME = os.environ.get("CAPTIONLAKE_HOME") or str(Path(__file__).resolve().parent.parent)
FIRST_NIGHT = datetime.fromisoformat(os.environ.get("CAPTIONLAKE_FIRST_NIGHT", "2026-11-01"))
LONGEST_WAIT = timedelta(hours=20)  # then the night fails, before the next one is due
LONGEST_JOB = timedelta(hours=20)

# Exit codes of conf/errors.py. A second try doesn't mend wrong use, a wrong model or a bad batch.
USAGE, MODEL, REJECTED_SHARE = 2, 4, 7
FINAL = {USAGE, MODEL, REJECTED_SHARE}


def setting(name: str, default: str) -> str:
    """Template of a setting: the run's parameter, else the variable `captionlake_NAME`."""
    variable = f"var.value.get('captionlake_{name}', {default!r})"
    return f"{{{{ {variable} if params.{name} is none else params.{name} }}}}"


DEFAULTS = {
    "input_root": "hdfs:///landing",
    "lake": "hdfs:///lake",
    "model": f"{HOME}/models/default",
    "environment": "local",
    "max_rejected_share": "0.05",
}
SETTINGS = {name: setting(name, default) for name, default in DEFAULTS.items()}
INPUT = SETTINGS["input_root"] + "/{{ ds }}"
# A retry keeps the id, and finds its own finished run. A night that someone clears gets another.
CLEARED = "{{ '.%d' % dag_run.clear_number if dag_run.clear_number }}"
RUN_ID = "{{ dag.dag_id }}-{{ ts_nodash }}" + CLEARED


class Job(BaseOperator):
    """Run a command of `spark-submit.sh`; the proof, if there is one, decides whether it succeeded.

    No shell takes part. When the task is killed the job gets SIGTERM, and ends its run by itself.
    """

    template_fields: Sequence[str] = ("command", "proof")

    def __init__(
        self, *, command: list[str], proof: list[str] | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.command = command
        self.proof = proof
        self._process = SubprocessHook()

    def execute(self, context: Context) -> None:
        """Do the work, unless an earlier try has done it whose end got lost."""
        is_retry = context["ti"].try_number > 1
        if is_retry and self.proof and submit(self._process, self.proof).exit_code == 0:
            return
        self._run(self.command)
        if self.proof:  # an exit code can be lost on its way, or tell of the wrong process
            self._run(self.proof)

    def on_kill(self) -> None:
        """Pass the end on; what still runs of the job ends within seconds."""
        self._process.send_sigterm()

    def _run(self, command: list[str]) -> None:
        ended = submit(self._process, command)
        if ended.exit_code in FINAL:
            raise AirflowFailException(ended.output)
        if ended.exit_code != 0:
            raise AirflowException(f"exit code {ended.exit_code}: {ended.output}")


class CompleteBatch(BaseSensorOperator):
    """Wait until the batch's folder holds `_SUCCESS`, without holding a worker meanwhile."""

    template_fields: Sequence[str] = ("command",)

    def __init__(self, *, command: list[str], **settings: Any) -> None:
        super().__init__(mode="reschedule", **settings)
        self.command = command

    def poke(self, context: Context) -> bool:
        """Look once; a file system that doesn't answer may do so the next time."""
        ended = submit(SubprocessHook(), self.command)
        if ended.exit_code == USAGE:
            raise AirflowFailException(ended.output)
        return bool(ended.exit_code == 0)


def submit(process: SubprocessHook, command: list[str]) -> Any:
    """Run `spark-submit.sh` in the checkout; return its exit code and last line of output."""
    return process.run_command([f"{HOME}/spark-submit.sh", *command], cwd=HOME)


with DAG(
    "nightly_captions",
    description="Caption the day's batch, maintain the tables, publish the report",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=FIRST_NIGHT.replace(tzinfo=UTC),
    catchup=True,
    max_active_runs=1,
    max_active_tasks=1,
    params={
        name: Param(
            None,
            type=["null", "number"] if name == "max_rejected_share" else ["null", "string"],
            description=f"default: the variable captionlake_{name}, else {default}",
        )
        for name, default in DEFAULTS.items()
    },
    default_args={
        "max_active_tis_per_dag": 1,  # also where a backfill runs beside the schedule
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(hours=1),
        "execution_timeout": LONGEST_JOB,
    },
    tags=["captionlake"],
) as dag:
    lake = ["--lake", SETTINGS["lake"]]
    environment = ["--env", SETTINGS["environment"]]
    run = ["--run-id", RUN_ID]
    batch = CompleteBatch(
        task_id="await_batch",
        command=["check_batch", "--input", INPUT, *environment],
        poke_interval=timedelta(minutes=5),
        timeout=LONGEST_WAIT,
    )
    caption = Job(
        task_id="caption",
        command=[
            "caption_images",
            *("--input", INPUT, "--require-success", *lake, *run, *environment),
            *("--model", SETTINGS["model"]),
            *("--max-rejected-share", SETTINGS["max_rejected_share"]),
        ],
        proof=["check_run", *lake, *run, *environment],
    )
    maintain = Job(task_id="maintain", command=["maintain_tables", *lake, *environment])
    report = Job(
        task_id="report",
        command=["report_run", *lake, *run, *environment],
        trigger_rule=TriggerRule.ONE_DONE,  # a bad night has a report too
    )
    batch >> caption >> [maintain, report]
