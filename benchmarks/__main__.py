"""Run one of the benchmarks: `python -m benchmarks [NAME] [its options]`, default `throughput`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

DEFAULT = "throughput"


def names() -> list[str]:
    """Return the benchmarks of this folder."""
    return sorted(
        file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")
    )


def main() -> int:
    """Run the benchmark that the first argument names."""
    known = names()
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.argv.insert(1, DEFAULT)
    if sys.argv[1] not in known:
        print(f"Name a benchmark: {', '.join(known)}.", file=sys.stderr)
        return 2
    name = sys.argv.pop(1)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
