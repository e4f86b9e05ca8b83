"""Airflow's own processes as a machine runs them: scheduler, DAG processor and API server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil

from tests.services.airflow_home import AIRFLOW, DAG_ID, AirflowHome
from tests.services.hdfs_daemons import die_with_parent, free_ports
from tests.services.submitting import wait_until

PATIENCE_SECONDS = 60


class AirflowServices:
    """A running Airflow: LocalExecutor, SQLite, everybody an administrator."""

    def __init__(self, home: AirflowHome) -> None:
        (port,) = free_ports(1)
        self._home = home
        self._address = f"http://127.0.0.1:{port}"
        self._port = str(port)
        self._variables = {
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._address}/execution/",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "of this test alone, and no secret at all",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the processes, the API first: a task that can't reach it fails."""
        self._start("api-server", "--host", "127.0.0.1", "--port", self._port)
        wait_until(self._answers)
        self._start("dag-processor")
        self._start("scheduler")

    def stop(self) -> None:
        """Take all processes away, also the jobs that they started."""
        ours = [psutil.Process(process.pid) for process in self._processes]
        for process in [child for one in ours for child in one.children(recursive=True)] + ours:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(ours)

    def ask(self, method: str, path: str, **body: Any) -> Mapping[str, Any]:
        """Call the REST API as an administrator does."""
        token = self._request("GET", "/auth/token", None, {})["access_token"]
        return self._request(method, path, body or None, {"Authorization": f"Bearer {token}"})

    def fail(self, night: str, task: str) -> None:
        """Mark a task as failed, as a person does on Airflow's page."""
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{self._name_of(night)}/taskInstances/{task}"
        self.ask("PATCH", path, new_state="failed")

    def clear(self, night: str) -> None:
        """Have a night done again, as a person does on Airflow's page."""
        self.ask(
            "POST",
            f"/api/v2/dags/{DAG_ID}/clearTaskInstances",
            dag_run_id=self._name_of(night),
            dry_run=False,
            only_failed=False,
            reset_dag_runs=True,
        )

    def _name_of(self, night: str) -> str:
        """Return Airflow's own name of a night's run."""
        runs = self.ask("GET", f"/api/v2/dags/{DAG_ID}/dagRuns")["dag_runs"]
        return str(next(run["dag_run_id"] for run in runs if run["logical_date"].startswith(night)))

    def _request(
        self, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> Mapping[str, Any]:
        request = Request(
            self._address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urlopen(request, timeout=60) as answer:
                    result: Mapping[str, Any] = json.load(answer)
                return result
            except HTTPError as error:  # 503: its SQLite is busy, and it asks to be asked again
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def _answers(self) -> bool:
        with suppress(URLError, OSError):
            return bool(self.ask("GET", "/api/v2/version")["version"])
        if self._processes[0].poll() is not None:
            raise RuntimeError("Airflow's API server ended; its log tells why.")
        return False

    def _start(self, *command: str) -> None:
        with (self._home.folder / f"{command[0]}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(AIRFLOW), *command],
                    env=self._home.environment | self._variables,
                    cwd=self._home.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # noqa: PLW1509  # the child runs no threads
                )
            )


@contextmanager
def running_airflow(home: AirflowHome) -> Iterator[AirflowServices]:
    """Yield a running Airflow, and take it away at the end."""
    services = AirflowServices(home)
    try:
        services.start()
        yield services
    finally:
        services.stop()
