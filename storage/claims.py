"""Claims: a run announces the batches that it works on, so that another needn't do the same work.

They only save work: `storage.commits` keeps the table right without them. A claim is two files in
`<lake>/_captionlake/claims`: what is claimed, written once, and an empty one that is written again
every few seconds. Their modification times tell which claim came first and that a run lives, by the
file system's own clock, so that the drivers' clocks don't matter.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from conf.errors import LakeError
from storage.hadoop import (
    JAVA_ERRORS,
    delete_file,
    is_java_error,
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
        written_ms: when it was written, by the file system's clock; milliseconds since 1970 UTC.
        name: of its files.
        batches: those the run works on.
    """

    written_ms: int
    name: str
    batches: frozenset[str]

    @property
    def run_id(self) -> str:
        """The run that holds it."""
        return _run_of(self.name)


class Claims:
    """The claims in one lake, as one run sees them."""

    def __init__(self, lake: Lake, run_id: str, *, expiry_seconds: float = EXPIRY_SECONDS) -> None:
        self._spark = lake.spark
        self._folder = f"{lake.uri}/_captionlake/claims"
        self.run_id = run_id
        # A scheduler may start one run id twice: each process has a claim of its own. No name on
        # HDFS may hold a run id's colon; tilde and equals sign are in no run id.
        self._name = f"{run_id.replace(':', '=')}~{uuid4().hex[:12]}"
        self._expiry_seconds = expiry_seconds

    @contextmanager
    def hold(self, batches: Collection[str]) -> Iterator[Claim]:
        """Claim batches until the block ends, or until the process is gone for a minute.

        Raises:
            LakeError: the lake can't be written.
        """
        stop = threading.Event()
        beating = threading.Thread(target=self._keep_beating, args=(stop,), daemon=True)
        with reported_as(
            LakeError,
            f"Can't write in {self._folder}",
            remedy="Check its permissions and the disk.",
        ):
            claim = self._announce(frozenset(batches))
        beating.start()
        try:
            yield claim
        finally:
            stop.set()
            beating.join()
            self._withdraw()

    def live_runs(self) -> set[str]:
        """Return the ids of the runs that show signs of life; this run, if it holds a claim."""
        return {_run_of(name) for name in _live_names(self._times(), self._expiry_seconds)}

    def remove_abandoned(self) -> None:
        """Delete the files of claims that have shown no life for a day."""
        times = self._times()
        day_ago = max(times.values(), default=0) - 86_400_000
        for name, time in times.items():
            beat = times.get(f"{name.removesuffix(_CLAIM).removesuffix(_BEAT)}{_BEAT}", time)
            if beat < day_ago:
                with reported_as(LakeError, f"Can't write in {self._folder}"):
                    delete_file(self._spark, f"{self._folder}/{name}")

    def before(self, own: Claim) -> list[Claim]:
        """Return the live claims of other processes on the same batches that came before ours."""
        names = _live_names(self._times(), self._expiry_seconds) - {self._name}
        if not names:
            return []
        batches = {name: self._read(name) & own.batches for name in names}
        times = self._times()  # anew: a file has its last time when it is whole
        claims = {
            Claim(times[f"{name}{_CLAIM}"], name, shared)
            for name, shared in batches.items()
            if shared and f"{name}{_CLAIM}" in times
        }
        return sorted(claim for claim in claims if claim < own)

    def _announce(self, batches: frozenset[str]) -> Claim:
        """Write a claim. The sign of life is there first: who sees the one can see the other."""
        self._beat()
        content = json.dumps({"batches": sorted(batches)})
        write_text(self._spark, self._path(self._name, _CLAIM), content)
        return Claim(self._times()[f"{self._name}{_CLAIM}"], self._name, batches)

    def _times(self) -> dict[str, int]:
        with reported_as(LakeError, f"Can't read {self._folder}"):
            return list_times(self._spark, self._folder)

    def _read(self, name: str) -> frozenset[str]:
        """Return the batches of a claim; none of one that is withdrawn, or not whole yet.

        A claim that is being written at this moment is later than ours.
        """
        try:
            text = read_text(self._spark, self._path(name, _CLAIM))
            return frozenset(json.loads(text or "{}").get("batches", ()))
        except ValueError:
            return frozenset()
        except JAVA_ERRORS as error:
            if is_java_error(error, "ChecksumException"):
                return frozenset()
            raise LakeError(f"Can't read {self._folder}: {one_line(error)}.") from error

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


def _live_names(times: Mapping[str, int], expiry_seconds: float) -> set[str]:
    beats = {name.removesuffix(_BEAT): ms for name, ms in times.items() if name.endswith(_BEAT)}
    now = max(beats.values(), default=0)  # ours is at most one beat old
    return {name for name, ms in beats.items() if now - ms < expiry_seconds * 1000}


def _run_of(name: str) -> str:
    return name.rpartition("~")[0].replace("=", ":")
