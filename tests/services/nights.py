"""Nights on HDFS: batches of photographs that land, and what the lake then holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from hdfs import InsecureClient

from models.samples import sample_photographs
from tests.services.hdfs_daemons import Hdfs

SIDE = 96


def crops(count: int, *, seed: int = 0) -> dict[str, bytes]:
    """Cut pieces out of the sample photographs: JPEG files of distinct bytes by name."""
    generator = np.random.default_rng(seed)
    photographs = [np.asarray(cv2.imread(str(path))) for path in sample_photographs()]
    files = {}
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top, left = (int(generator.integers(0, size - SIDE)) for size in photograph.shape[:2])
        piece = photograph[top : top + SIDE, left : left + SIDE]
        files[f"{number:04d}.jpg"] = np.asarray(cv2.imencode(".jpg", piece)[1]).tobytes()
    return files


@dataclass(frozen=True)
class Site:
    """One team's folders on HDFS: a batch per day in `landing`, and the `lake`."""

    hdfs: Hdfs
    root: str

    def land(self, night: str, files: dict[str, bytes]) -> None:
        """Write a night's photographs."""
        folder = f"{self.root}/landing/{night}"
        with ThreadPoolExecutor(8) as threads:
            paths = [f"{folder}/{name}" for name in files]
            list(threads.map(self._client.write, paths, files.values()))

    def complete(self, night: str) -> None:
        """Say that the night's batch is complete."""
        self._client.write(f"{self.root}/landing/{night}/_SUCCESS", b"")

    def captions(self, night: str) -> list[dict[str, Any]]:
        """Return the night's rows; none while there is no table."""
        return [row for row in self._rows("captions") if row["batch"].endswith(night)]

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the table `runs` by run."""
        rows = self._rows("runs")
        assert len({row["run_id"] for row in rows}) == len(rows)
        return {row["run_id"]: row for row in rows}

    def report(self, run_id: str) -> str:
        """Return the page of a run."""
        with self._client.read(f"{self.root}/lake/reports/{run_id}.html", encoding="utf-8") as page:
            text: str = page.read()
        return text

    def claims(self) -> list[str]:
        """Return the files of all claims."""
        names: list[str] = self._client.list(f"{self.root}/lake/_captionlake/claims")
        return names

    def variables(self) -> dict[str, str]:
        """Return Airflow's variables for this site, as its environment holds them."""
        return {
            "AIRFLOW_VAR_CAPTIONLAKE_INPUT_ROOT": f"hdfs://{self.root}/landing",
            "AIRFLOW_VAR_CAPTIONLAKE_LAKE": f"hdfs://{self.root}/lake",
            "HADOOP_CONF_DIR": str(self.hdfs.configuration),
        }

    @property
    def _client(self) -> InsecureClient:
        return InsecureClient(self.hdfs.web_uri, user="root")

    def _rows(self, table: str) -> list[dict[str, Any]]:
        try:
            opened = DeltaTable(f"{self.hdfs.uri}{self.root}/lake/{table}")
        except TableNotFoundError:
            return []
        rows: list[dict[str, Any]] = opened.to_pyarrow_table().to_pylist()
        return rows
