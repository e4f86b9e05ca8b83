"""This pipeline, started as its users start it: `./spark-submit.sh caption_images`.

The lake exists and holds a few captions of an earlier batch, as every night but the first finds it.
The clock is the run's own, from the ready session to the reconciled table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import threading
import time
from pathlib import Path

from benchmarks.shared.counting_daemon import COUNTS_VARIABLE
from conf.settings import REPOSITORY

LOCAL = "file:"
POLL_SECONDS = 0.2


def main() -> None:
    """Make the lake, caption everything, and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("input", "earlier", "lake", "model"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("scratch", "counts", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    submit(options.earlier, options.lake, options.model, scratch=options.scratch)
    watch = FirstCommit(options.lake)
    started = time.perf_counter()
    summary = submit(
        options.input, options.lake, options.model, scratch=options.scratch, counts=options.counts
    )
    figures = {
        "seconds": summary["captioned"] / summary["images_per_second"],
        "total_seconds": time.perf_counter() - started,
        "first_commit_seconds": watch.seconds(),
        "stage_seconds": summary["stage_seconds"],
    }
    if summary["captioned"] != summary["found"]:
        raise AssertionError(f"{summary['captioned']} of {summary['found']} were captioned")
    options.result.write_text(json.dumps(figures), encoding="utf-8")


def submit(
    photographs: str, lake: str, model: str, *, scratch: Path, counts: Path | None = None
) -> dict[str, float]:
    """Run the job, counting its inferences if asked, and return its summary."""
    summary = scratch / "summary.json"
    counting = ["--conf", "spark.python.daemon.module=benchmarks.shared.counting_daemon"]
    options = {"input": photographs, "lake": lake, "model": model, "summary-json": summary.as_uri()}
    subprocess.run(
        [
            str(REPOSITORY / "spark-submit.sh"),
            *(counting if counts else []),
            "caption_images",
            *[part for name, value in options.items() for part in (f"--{name}", value)],
        ],
        env={**os.environ, COUNTS_VARIABLE: str(counts)},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    figures: dict[str, float] = json.loads(summary.read_text(encoding="utf-8"))
    return figures


class FirstCommit:
    """Sees when a local lake's first new captions are committed."""

    def __init__(self, lake: str) -> None:
        """Begin to watch now."""
        self._log = Path(lake.removeprefix(LOCAL)) / "captions" / "_delta_log"
        self._before = self._versions()
        self._seconds: float | None = None
        self._started = time.perf_counter()
        if lake.startswith(LOCAL):
            threading.Thread(target=self._watch, daemon=True).start()

    def seconds(self) -> float | None:
        """Return the time from the command to the first commit; None on another file system."""
        return self._seconds

    def _watch(self) -> None:
        while self._versions() == self._before:
            time.sleep(POLL_SECONDS)
        self._seconds = time.perf_counter() - self._started

    def _versions(self) -> int:
        return len(list(self._log.glob("*.json")))


if __name__ == "__main__":
    main()
