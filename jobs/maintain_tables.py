"""Keep a lake's tables small and fast, and forget photographs: `maintain_tables`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic
from uuid import uuid4

from pyspark.sql import SparkSession

from conf.errors import ClaimedElsewhereError, InputError, UsageError
from conf.maintenance import SAFE_HOURS, MaintainSettings, is_sha256
from conf.resolve import Resolved
from conf.version import VERSION
from jobs.cli import required, run_command, to_keep
from jobs.recording import Recording, written
from jobs.session import session
from jobs.stopping import Stop
from storage.claims import Claims
from storage.excluded import Exclusions
from storage.exclusions import ExclusionList
from storage.forgetting import Withdrawal, Withdrawn, withdraw
from storage.hadoop import read_text, reported_as
from storage.lake import Lake, open_existing_lake
from storage.maintenance import (
    Size,
    compact,
    delete_excluded,
    delete_old_runs,
    delete_superseded,
    size_of,
    vacuum,
)
from storage.paths import qualify
from storage.reports import delete_reports
from storage.runs import RunRecord

JOB = "maintain_tables"
DESCRIPTION = """\
Compact the tables of a lake, and delete what nobody needs any more.

It may run beside captioning and readers. Small files of a batch become one, files that no state of
the last week needs are deleted, and so are the rows of withdrawn photographs, always. Rows of old
runs and superseded captions go only where asked. --forget, --forget-hash and --forget-file withdraw
photographs: rows, captions and reports that show them go at once, the files that held them after
the retention, and no later run captions them again. See docs/maintenance.md.

exit codes: 0 done, 2 usage, 3 input, 5 lake, 6 environment, 9 a run is at work, 143 terminated
"""


@dataclass
class Account:
    """What a maintenance did: how many of each, and the seconds of each step."""

    done: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reports: list[str] = field(default_factory=list)
    withdrawn: Withdrawn = field(default_factory=lambda: Withdrawn(frozenset(), {}))

    @contextmanager
    def step(self, name: str, stop: Stop) -> Iterator[None]:
        """Measure a step, unless the job is to end."""
        stop.check()
        started = monotonic()
        yield
        self.seconds[name] = monotonic() - started


def main(resolved: Resolved[MaintainSettings], stop: Stop) -> None:
    """Run the job from its settings to its summary."""
    settings = resolved.settings
    required(settings, "lake")
    with session(JOB, resolved.environment, stop) as spark:
        env_local = resolved.environment.is_local
        asked = read_requests(spark, settings, env_local=env_local)
        lake = open_existing_lake(spark, qualify(spark, str(settings.lake), env_local=env_local))
        maintain(lake, settings, asked, stop)


def read_requests(
    spark: SparkSession, settings: MaintainSettings, *, env_local: bool
) -> Withdrawal:
    """Return what is to be forgotten.

    Raises:
        InputError: the file of requests can't be read, or isn't UTF-8.
    """
    asked = [settings.forget, settings.forget_hash]
    if settings.forget_file is not None:
        uri = qualify(spark, settings.forget_file, env_local=env_local)
        with reported_as(InputError, f"Can't read {uri}", remedy="Check --forget-file."):
            try:
                text = read_text(spark, uri)
            except UnicodeDecodeError as error:
                raise InputError(f"{uri} isn't UTF-8.", remedy="Convert it.") from error
        if text is None:
            raise InputError(f"There is no file {uri}.", remedy="Check --forget-file.")
        asked += text.splitlines()
    wanted = [line for line in asked if line]
    paths = [line for line in wanted if not is_sha256(line)]
    return Withdrawal(
        frozenset(qualify(spark, path, env_local=env_local) for path in paths),
        frozenset(line.lower() for line in wanted if is_sha256(line)),
    )


def maintain(lake: Lake, settings: MaintainSettings, asked: Withdrawal, stop: Stop) -> Account:
    """Forget, delete, compact and clean, in this order; tell what was done."""
    claims = Claims(lake, f"{JOB}-{uuid4().hex}")
    account = Account()
    with claims.hold([]):  # a claim on nothing: it shows that this run lives
        refuse_short_retention(settings, claims.live_runs() - {claims.run_id})
        recording = Recording(first_row(claims.run_id, settings))
        with written(recording, lake, stop):
            before = sizes(lake)
            exclusions = forget(lake, asked, claims.run_id, account, stop)
            delete(lake, settings, exclusions, account, stop)
            claims.remove_abandoned()
            clean(lake, settings, account, stop)
            recording.row = replace(recording.row, stage_seconds=account.seconds)
            print_account(account, before, sizes(lake))
            refuse_unread(account.withdrawn)
    return account


def refuse_unread(withdrawn: Withdrawn) -> None:
    """Raise InputError where the bytes of a photograph to forget could not be read."""
    if withdrawn.unreadable:
        reason = next(iter(withdrawn.unreadable.values()))
        raise InputError(
            f"{len(withdrawn.unreadable)} photographs to forget can't be read now (for one: "
            f"{reason}). Their paths are withdrawn and all else was done, but a copy that has no "
            "row yet may still be captioned.",
            remedy="Ask again when they can be read, or use --forget-hash.",
        )


def refuse_short_retention(settings: MaintainSettings, others: set[str]) -> None:
    """Raise where the retention would take files from those who work now.

    Raises:
        UsageError: it is shorter than is safe, and that wasn't allowed.
        ClaimedElsewhereError: it was, but another run is at work.
    """
    if settings.retention_hours >= SAFE_HOURS:
        return
    if not settings.unsafe_retention:
        raise UsageError(
            f"--retention-hours {settings.retention_hours:g} is shorter than {SAFE_HOURS:g}, which "
            "readers and runs at work may need.",
            remedy="Where there are none, add --unsafe-retention.",
        )
    if others:
        raise ClaimedElsewhereError(
            f"Run {', '.join(sorted(others))} is at work, and a retention of "
            f"{settings.retention_hours:g} hours could delete its files.",
            remedy="Wait for it, or keep files longer.",
        )


def first_row(run_id: str, settings: MaintainSettings) -> RunRecord:
    """Return the run's row without what it is to forget."""
    kept = to_keep(settings, without=["forget", "forget_hash", "forget_file"])
    return RunRecord(run_id, JOB, json.dumps(kept), VERSION, "", "", datetime.now(tz=UTC))


def forget(lake: Lake, asked: Withdrawal, run_id: str, account: Account, stop: Stop) -> Exclusions:
    """Put what is asked on the exclusion list, and return the whole list."""
    if asked.paths or asked.images:
        with account.step("forget", stop):
            account.withdrawn = withdraw(lake, asked, run_id=run_id)
    return ExclusionList(lake.spark, lake.exclusions_uri).now()


def delete(
    lake: Lake,
    settings: MaintainSettings,
    exclusions: Exclusions,
    account: Account,
    stop: Stop,
) -> None:
    """Delete the rows and pages of everything withdrawn so far, and what the policy says."""
    with account.step("delete", stop):
        account.done["rows of withdrawn photographs"] = delete_excluded(lake, exclusions)
        account.reports += delete_reports(lake, exclusions)
        if settings.keep_superseded_days is not None:
            days = settings.keep_superseded_days
            account.done["superseded rows"] = delete_superseded(lake, older_than_days=days)
        if settings.keep_runs_days is not None:
            days = settings.keep_runs_days
            account.done["rows of old runs"] = delete_old_runs(lake, older_than_days=days)


def clean(lake: Lake, settings: MaintainSettings, account: Account, stop: Stop) -> None:
    """Compact the captions, then delete what no table needs any more.

    `runs` has one file in each run's partition, so that runs never conflict: nothing to compact.
    """
    with account.step("compact", stop):
        account.done["small files compacted"] = compact(lake.spark, lake.captions_uri)
    for name, uri in tables(lake).items():
        with account.step(f"vacuum_{name}", stop):
            vacuum(lake.spark, uri, retention_hours=settings.retention_hours)


def tables(lake: Lake) -> dict[str, str]:
    """Return the lake's tables that exist, by name."""
    known = {
        "captions": lake.captions_uri,
        "runs": lake.runs_uri,
        "exclusions": lake.exclusions_uri,
    }
    return {name: uri for name, uri in known.items() if size_of(lake.spark, uri).files}


def sizes(lake: Lake) -> dict[str, Size]:
    """Return what each table holds on disk."""
    return {name: size_of(lake.spark, uri) for name, uri in tables(lake).items()}


def print_account(account: Account, before: dict[str, Size], after: dict[str, Size]) -> None:
    """Tell what was done, and files and bytes before and after."""
    print(", ".join(f"{count} {what}" for what, count in account.done.items()))
    if account.withdrawn.unknown:  # not named: what was withdrawn stays in no log
        print(
            f"{len(account.withdrawn.unknown)} of the paths to forget have no row, and nothing "
            "lies there; they are withdrawn, but check their spelling."
        )
    for name in account.reports:
        print(f"deleted reports/{name}; report_run makes it again without the photograph")
    for name, now in after.items():
        was = before.get(name, Size(0, 0))
        print(
            f"{name}: {was.files} files, {was.size_bytes} bytes before; "
            f"{now.files} files, {now.size_bytes} bytes after"
        )


if __name__ == "__main__":
    sys.exit(run_command(main, MaintainSettings, command=JOB, description=DESCRIPTION))
