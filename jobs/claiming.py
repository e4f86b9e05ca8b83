"""What a run does where another live run works on the same batches: wait, skip or fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from conf.errors import ClaimedElsewhereError
from conf.settings import OnClaimed
from jobs.stopping import Stop
from storage.claims import Claim, Claims

POLL_SECONDS = 2.0
log = logging.getLogger("captionlake")


@dataclass(frozen=True)
class Settled:
    """What is left for this run once the others' claims are respected.

    Attributes:
        pending: rows of `storage.schemas.PENDING`.
        elsewhere: paths of pending files left to other runs.
        waited_seconds: how long others have worked on the batches meanwhile; None if none did.
    """

    pending: pa.Table
    elsewhere: list[str]
    waited_seconds: float | None = None


def settle(
    claims: Claims,
    own: Claim,
    pending: pa.Table,
    *,
    on_claimed: OnClaimed,
    stop: Stop,
    find_pending: Callable[[], pa.Table],
) -> Settled:
    """Respect the claims that came before ours.

    Raises:
        ClaimedElsewhereError: a batch is claimed, and `on_claimed` is "fail".
        Terminated: the run was asked to end while it waited.
    """
    others = claims.before(own)
    if not others:
        return Settled(pending, [])
    runs = ", ".join(sorted(other.run_id for other in others))
    if on_claimed == "fail":
        raise ClaimedElsewhereError(
            f"Run {runs} is working on the same batches.",
            remedy="Wait for it, or use --on-claimed wait or skip.",
        )
    if on_claimed == "skip":
        return _without(pending, frozenset().union(*(other.batches for other in others)))
    log.info("Waiting for run %s, which works on the same batches", runs)
    started = time.monotonic()
    while claims.before(own):
        stop.check()
        time.sleep(POLL_SECONDS)
    waited = time.monotonic() - started
    return Settled(find_pending(), [], waited_seconds=waited)


def _without(pending: pa.Table, batches: frozenset[str]) -> Settled:
    claimed = pc.is_in(pending.column("batch"), pa.array(sorted(batches), pa.string()))
    elsewhere = pending.filter(claimed).column("path").to_pylist()
    return Settled(pending.filter(pc.invert(claimed)), elsewhere)
