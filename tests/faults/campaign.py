"""Runs that are struck at random moments until everything is captioned all the same."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from hdfs import InsecureClient

from models.package import ModelPackage
from tests.captioning import photograph
from tests.faults.delta_over_http import DeltaOverHttp
from tests.faults.observer import Observer, parts_of_chunks
from tests.faults.strikes import SURVIVED, Stage, Strike
from tests.services.cluster import Cluster
from tests.services.hdfs_daemons import Hdfs
from tests.services.submitting import ROOT, Submission, submit, wait_until

CHUNK_FILES = 8
FIRST_CHUNK_FILES = 1  # a run begins with an eighth of a chunk
NIGHT_FILES = 96
LONGEST_DELAY_SECONDS = 2.0
ENVIRONMENT_FAULTS = {5, 6}
KILLED = {-9, 137}
log = logging.getLogger("faults")


@dataclass(frozen=True)
class Struck:
    """One blow: what it was, and how many rows of how many files there were before."""

    strike: Strike
    rows_before: int
    files: int


class Campaign:
    """A landing folder and a lake on HDFS, captioned night after night by a cluster under fire."""

    def __init__(self, hdfs: Hdfs, cluster: Cluster, package: ModelPackage, *, seed: int) -> None:
        self.client = InsecureClient(hdfs.web_uri, user="root")
        self.observer = Observer(self.client, "/lake/captions", chunk_files=CHUNK_FILES)
        self.random = Random(seed)
        self.blows: list[Struck] = []
        self.files: dict[str, int] = {}
        self.exit_codes: dict[str, int] = {}
        self._hdfs = hdfs
        self._cluster = cluster
        self._package = package
        self._run_ids = map("run-{:03d}".format, itertools.count())

    def fight(self, strikes: list[Strike]) -> None:
        """Strike once in each run, begin a new night whenever one is done, and end undisturbed."""
        with self.observer.watching():
            for strike in strikes:
                if len(self.observer.rows) == len(self.files):
                    self.land_night()
                with self._run() as (run_id, job):
                    is_struck = self._strike_mid_work(strike, job)
                self._heal()
                self._judge_end(run_id, strike if is_struck else None)
            with self._run() as (run_id, _):
                pass
            self._judge_end(run_id, None)

    def runs(self) -> dict[str, str]:
        """Return the state of each run by its id, from the runs table."""
        rows = DeltaOverHttp(self.client, "/lake/runs").to_the_end()
        return {row["run_id"]: row["state"] for row in rows}

    def parts_of_chunks(self) -> dict[str, list[int]]:
        """Return, by run, the sizes of commits that were no whole chunk."""
        return parts_of_chunks(
            self.observer.commits,
            night_files=NIGHT_FILES,
            first_files=FIRST_CHUNK_FILES,
            chunk_files=CHUNK_FILES,
        )

    def land_night(self) -> None:
        """Put one more night's photographs beside those there are."""
        night = len(self.files) // NIGHT_FILES
        for seed in range(len(self.files), len(self.files) + NIGHT_FILES):
            path = f"/landing/night-{night}/{seed:05d}.png"
            self.client.write(path, photograph(seed))
            self.files[f"{self._hdfs.uri}{path}"] = seed

    @contextmanager
    def _run(self) -> Iterator[tuple[str, Submission]]:
        run_id = next(self._run_ids)
        job = submit(
            *("--master", self._cluster.uri, "--executor-memory", "600m"),
            *("--conf", f"spark.executorEnv.PYTHONPATH={ROOT}"),
            *("caption_images", "--run-id", run_id, "--chunk-files", str(CHUNK_FILES)),
            *("--input", f"{self._hdfs.uri}/landing", "--lake", f"{self._hdfs.uri}/lake"),
            *("--model", str(self._package.directory), "--precision", "float32"),
            folder=self._cluster.folder,
        )
        try:
            yield run_id, job
            _, _, errors = job.wait()
        finally:
            job.end()
        self.exit_codes[run_id] = job.process.returncode
        log.info("%s ended with %d: %s", run_id, job.process.returncode, errors[-300:])

    def _strike_mid_work(self, strike: Strike, job: Submission) -> bool:
        """Strike a moment after the run's first commit; return whether that was before its end."""
        before = len(self.observer.rows)
        wait_until(lambda: len(self.observer.rows) > before or job.process.poll() is not None)
        time.sleep(self.random.uniform(0, LONGEST_DELAY_SECONDS))
        struck = Struck(strike, len(self.observer.rows), len(self.files))
        stage = Stage(self._hdfs, self._cluster, job, self.random)
        if (
            job.process.poll() is not None
            or struck.rows_before == struck.files
            or not strike(stage)
        ):
            return False
        log.info("%s at %d of %d rows", strike.__name__, struck.rows_before, struck.files)
        self.blows.append(struck)
        return True

    def _heal(self) -> None:
        """Bring back what died, and let nobody wait for the dead run's claim to expire."""
        self._cluster.replace_dead_workers()
        self._hdfs.wait_until_ready()
        self.client.delete("/lake/_captionlake/claims", recursive=True)

    def _judge_end(self, run_id: str, strike: Strike | None) -> None:
        code = self.exit_codes[run_id]
        honest = {0} if strike is None or strike in SURVIVED else {0, *ENVIRONMENT_FAULTS, *KILLED}
        if code not in honest:
            blow = strike.__name__ if strike else "no strike"
            self.observer.complaints.append(f"{run_id} ended with {code} after {blow}")
