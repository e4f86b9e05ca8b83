"""Tell whether a batch is complete, that is, holds its _SUCCESS marker."""

from __future__ import annotations

import sys

from conf.errors import InputError
from conf.resolve import Resolved
from conf.scheduling import BatchSettings
from jobs.cli import required, run_command
from jobs.stopping import Stop
from storage.listing import SUCCESS_MARKER
from storage.without_spark import file_exists, resolve_uri

JOB = "check_batch"
DESCRIPTION = """\
Tell whether a batch folder holds its _SUCCESS marker; starts no Spark.

exit codes: 0 it does, 2 usage, 3 not yet, 6 the file system doesn't answer
"""


def main(resolved: Resolved[BatchSettings], _: Stop) -> None:
    """Look once."""
    required(resolved.settings, "input")
    env_local = resolved.environment.is_local
    folder = resolve_uri(str(resolved.settings.input), env_local=env_local)
    if not file_exists(folder, SUCCESS_MARKER):
        raise InputError(f"{folder} has no {SUCCESS_MARKER} marker yet.")
    print(f"{folder} is complete.")


if __name__ == "__main__":
    sys.exit(run_command(main, BatchSettings, command=JOB, description=DESCRIPTION))
