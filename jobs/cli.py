"""What every command shares: settings, signals, errors in one line, exit codes."""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conf.errors import CaptionlakeError, EnvironmentFault, UsageError
from conf.resolve import Resolved, resolve
from conf.settings import Settings
from jobs.stopping import Stop, Terminated, run_stoppable
from jobs.streams import own_streams
from storage.abandoned import is_any_abandoned
from storage.hadoop import JAVA_ERRORS, one_line

TERMINATED_EXIT_CODE = 143
PID_FILE_VARIABLE = "CAPTIONLAKE_DRIVER_PID_FILE"
# In abfs:// and wasb:// the part before the @ is the container, not a user. A password may hold @.
_USER_INFO = re.compile(r"(?<!abfs)(?<!abfss)(?<!wasb)(?<!wasbs)://[^/\s\"']*@")
# Not part=x in a path, which is a partition's name.
_TOKEN = re.compile(
    r"(?i)((?:^|[?&;,(\s\"'])(?:[\w-]*[_-])?"
    r"(?:token|secret|password|passwd|pwd|sig|signature|key|credential|delegation)=)[^&;,\s\"')]+"
)

S = TypeVar("S", bound=Settings)
log = logging.getLogger("captionlake")


def run_command(
    main: Callable[[Resolved[S], Stop], None],
    settings_type: type[S],
    *,
    command: str,
    description: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one job and return the exit code of `conf.errors` (0, or 143 when terminated)."""
    code = _run(main, settings_type, command, description, arguments)
    if is_any_abandoned():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(
    main: Callable[[Resolved[S], Stop], None],
    settings_type: type[S],
    command: str,
    description: str,
    arguments: Sequence[str] | None,
) -> int:
    with own_streams():
        _log_to_standard_error()
        _announce_driver()
        try:
            resolved, switches = resolve(
                settings_type,
                sys.argv[1:] if arguments is None else arguments,
                command=command,
                description=description,
                variables=os.environ,
            )
            if switches.print_config:
                print(redact(resolved.describe()))
                return 0
            run_stoppable(lambda stop: main(resolved, stop))
        except CaptionlakeError as failure:
            print(f"{command}: {redact(str(failure))}", file=sys.stderr)
            return failure.exit_code
        except Terminated:
            print(f"{command}: terminated; what was committed stays.", file=sys.stderr)
            return TERMINATED_EXIT_CODE
        except (*JAVA_ERRORS, OSError, MemoryError) as failure:  # no code of ours failed
            log.debug("What the machine, Spark or the storage raised", exc_info=True)
            reason = redact(one_line(failure))
            print(f"{command}: {reason}. What was committed stays; run again.", file=sys.stderr)
            return EnvironmentFault.exit_code
        return 0


def redact(text: str) -> str:
    """Return the text without user info or tokens of URIs."""
    return _TOKEN.sub(r"\1***", _USER_INFO.sub("://***@", text))


def to_keep(settings: Settings, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings as others may see them: redacted, and without the fields named."""
    values = settings.model_dump(mode="json", exclude=set(without))
    return {name: redact(one) if isinstance(one, str) else one for name, one in values.items()}


def required(settings: Settings, *names: str) -> None:
    """Raise UsageError unless each named setting is given."""
    missing = ["--" + name.replace("_", "-") for name in names if getattr(settings, name) is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be given.", remedy="See --help.")


def _log_to_standard_error() -> None:
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("py4j").setLevel(logging.WARNING)


def _announce_driver() -> None:
    """Tell spark-submit.sh which process takes the signals."""
    if pid_file := os.environ.get(PID_FILE_VARIABLE):
        Path(pid_file).write_text(str(os.getpid()), encoding="utf-8")
