"""Claims: a run announces the batches that it works on, so that another needn't do the same work.

They only save work: `storage.commits` keeps the table right without them. A claim is two files in
`<lake>/_captionlake/claims`: what is claimed, written once, and an empty one that is written again
every few seconds. Its modification time tells that the run lives, by the file system's own clock,
so that the drivers' clocks don't matter.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from uuid import uuid4

from conf.errors import LakeError
from storage.hadoop import (
    JAVA_ERRORS,
    delete_file,
    list_times,
    one_line,
    read_text,
    reported_as,
    write_text,
)
from storage.lake import Lake

BEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0
_BEAT, _CLAIM = ".beat", ".json"
log = logging.getLogger("captionlake")


@dataclass(frozen=True, order=True)
class Claim:
    """What a live run works on; the earlier claim of two has precedence.

    Attributes:
        claimed_at: ISO 8601 time in UTC, of the run's own clock.
        run_id: the run.
        batches: those it works on.
    """

    claimed_at: str
    run_id: str
    batches: frozenset[str]


class Claims:
    """The claims in one lake, as one run sees them."""

    def __init__(self, lake: Lake, run_id: str, *, expiry_seconds: float = EXPIRY_SECONDS) -> None:
        self._spark = lake.spark
        self._folder = f"{lake.uri}/_captionlake/claims"
        self.run_id = run_id
        # A scheduler may start one run id twice: each process has a claim of its own. No run id
        # holds a tilde, no name on HDFS may hold a run id's colon.
        self._name = f"{quote(run_id, safe='')}~{uuid4().hex[:12]}"
        self._expiry_seconds = expiry_seconds

    @contextmanager
    def hold(self, batches: Collection[str]) -> Iterator[Claim]:
        """Claim batches until the block ends, or until the process is gone for a minute.

        Raises:
            LakeError: the lake can't be written.
        """
        claim = Claim(datetime.now(UTC).isoformat(), self.run_id, frozenset(batches))
        stop = threading.Event()
        beating = threading.Thread(target=self._keep_beating, args=(stop,), daemon=True)
        content = {"claimed_at": claim.claimed_at, "batches": sorted(claim.batches)}
        with reported_as(
            LakeError,
            f"Can't write in {self._folder}",
            remedy="Check its permissions and the disk.",
        ):
            self._beat()
            write_text(self._spark, self._path(self._name, _CLAIM), json.dumps(content))
        beating.start()
        try:
            yield claim
        finally:
            stop.set()
            beating.join()
            self._withdraw()

    def live_runs(self) -> set[str]:
        """Return the ids of the runs that show signs of life; this run, if it holds a claim."""
        return {_run_of(name) for name in self._live_names()}

    def remove_abandoned(self) -> None:
        """Delete the files of claims that have shown no life for a day."""
        times = list_times(self._spark, self._folder)
        day_ago = max(times.values(), default=0) - 86_400_000
        for name, time in times.items():
            beat = times.get(f"{name.removesuffix(_CLAIM).removesuffix(_BEAT)}{_BEAT}", time)
            if beat < day_ago:
                delete_file(self._spark, f"{self._folder}/{name}")

    def before(self, own: Claim) -> list[Claim]:
        """Return the live claims of other processes on the same batches that came before ours."""
        others = (self._read(name) for name in sorted(self._live_names() - {self._name}))
        return sorted(
            other for other in others if other and other < own and other.batches & own.batches
        )

    def _live_names(self) -> set[str]:
        beats = {
            name.removesuffix(_BEAT): time
            for name, time in list_times(self._spark, self._folder).items()
            if name.endswith(_BEAT)
        }
        now = max(beats.values(), default=0)  # ms; ours is at most one beat old
        longest = self._expiry_seconds * 1000
        return {name for name, time in beats.items() if now - time < longest}

    def _read(self, name: str) -> Claim | None:
        text = read_text(self._spark, self._path(name, _CLAIM))
        if text is None:  # just withdrawn, or not written yet
            return None
        try:
            content = json.loads(text)
        except ValueError:  # being written at this moment: later than ours
            return None
        return Claim(content["claimed_at"], _run_of(name), frozenset(content["batches"]))

    def _keep_beating(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            try:
                self._beat()
            except JAVA_ERRORS as error:  # others may then do our work too, and nothing is doubled
                log.warning("The claim could not be renewed: %s", one_line(error))

    def _beat(self) -> None:
        write_text(self._spark, self._path(self._name, _BEAT), "")

    def _withdraw(self) -> None:
        for suffix in (_CLAIM, _BEAT):
            try:
                delete_file(self._spark, self._path(self._name, suffix))
            except JAVA_ERRORS as error:  # it expires by itself
                log.warning("The claim could not be withdrawn: %s", one_line(error))

    def _path(self, name: str, suffix: str) -> str:
        return f"{self._folder}/{name}{suffix}"


def _run_of(name: str) -> str:
    return unquote(name.rpartition("~")[0])
