"""Where jobs run: one TOML file of this folder per environment, upon what `common.toml` says.

`python -m conf.environments NAME` prints the Spark properties as spark-submit reads them: some,
like the driver's memory, must be known before the driver's JVM starts.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.errors import UsageError

CONF_FOLDER = Path(__file__).resolve().parent
COMMON = "common"


@dataclass(frozen=True)
class Environment:
    """One file of `conf/`: where jobs run.

    Attributes:
        name: the file's name without `.toml`.
        job: values for job settings.
        spark: Spark properties, each as text.
    """

    name: str
    job: Mapping[str, Any]
    spark: Mapping[str, str]

    @property
    def is_local(self) -> bool:
        """Whether jobs run on this machine alone, so that bare paths mean its own files."""
        return self.name == "local"

    def as_properties_file(self) -> str:
        """Return the Spark properties in the form of Java's properties files."""
        return "".join(f"{key} {_escape(value)}\n" for key, value in self.spark.items())


def environment_names() -> list[str]:
    """Return the environments that `--env` takes."""
    return sorted({path.stem for path in CONF_FOLDER.glob("*.toml")} - {COMMON})


def load_environment(name: str) -> Environment:
    """Read `conf/NAME.toml` upon `conf/common.toml`.

    Raises:
        UsageError: no such environment.
    """
    known = environment_names()
    if name not in known:
        raise UsageError(f"There is no environment '{name}'.", remedy=f"Use {', '.join(known)}.")
    common, own = _read(COMMON), _read(name)
    spark = common.get("spark", {}) | own.get("spark", {})
    return Environment(
        name,
        common.get("job", {}) | own.get("job", {}),
        {key: _property_text(value) for key, value in spark.items()},
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((CONF_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _property_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escape(value: str) -> str:
    """Properties files take a backslash for an escape."""
    return value.replace("\\", "\\\\")


def main(arguments: list[str]) -> int:
    """Print the properties of the environment named by the one argument."""
    try:
        print(load_environment(arguments[0]).as_properties_file(), end="")
    except UsageError as failure:
        print(f"spark-submit.sh: {failure}", file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
