"""spark-submit.sh with a real Spark: what the driver is given, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.services.checkout import ROOT, Checkout, make_checkout
from tests.services.hdfs_daemons import is_running
from tests.services.submitting import paused, wait_until

REPORT = """\
\"\"\"Write down what the driver sees.\"\"\"
import json, os, sys
from conf.environments import load_environment
from jobs.session import build_session

if __name__ == "__main__":
    spark = build_session("report", load_environment("local"))
    spark.range(3).write.format("delta").save(sys.argv[2])
    worker = spark.sparkContext.parallelize([0], 1).map(lambda _: sys.executable).first()
    seen = {
        "arguments": sys.argv[1:],
        "conf": dict(spark.sparkContext.getConf().getAll()),
        "driver": sys.executable,
        "worker": worker,
        "folder": os.getcwd(),
        "heap": spark.sparkContext._jvm.Runtime.getRuntime().maxMemory(),
    }
    with open(sys.argv[1], "w") as report:
        json.dump(seen, report)
    spark.stop()
    sys.exit(8)
"""
PATIENT = """\
\"\"\"Work until told to end, then use Spark once more.\"\"\"
import os, signal, sys, time
from pathlib import Path
from pyspark.sql import SparkSession

if __name__ == "__main__":
    spark = SparkSession.builder.getOrCreate()
    asked = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    Path(os.environ["CAPTIONLAKE_DRIVER_PID_FILE"]).write_text(str(os.getpid()))
    java = spark.sparkContext._jvm.ProcessHandle.current().pid()
    Path(sys.argv[1]).write_text(f"{os.getpid()} {java}")
    while not asked:
        spark.range(1).count()
        time.sleep(0.1)
    Path(sys.argv[1]).write_text(f"counted {spark.range(5).count()} after {len(asked)} signal")
    sys.exit(143)
"""

MAPPED = """\
\"\"\"Write down which files the JVM has mapped into its memory, and whether it archives.\"\"\"
import os
import sys
from pathlib import Path
from conf.environments import load_environment
from jobs.session import build_session

if __name__ == "__main__":
    spark = build_session("mapped", load_environment("local"))
    java = spark.sparkContext._jvm.ProcessHandle.current().pid()
    Path(sys.argv[1]).write_text(Path(f"/proc/{java}/maps").read_text())
    Path("archiving").write_text(os.environ.get("CAPTIONLAKE_ARCHIVES_CLASSES", "no"))
    spark.stop()
"""

pytestmark = pytest.mark.skipif(
    not any((ROOT / "jars").glob("*delta-spark*.jar")), reason="No jars: run `make setup`."
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = make_checkout(tmp_path_factory.mktemp("submit") / "a check out")
    made.add_job("report", REPORT)
    made.add_job("patient", PATIENT)
    return made


@pytest.fixture(scope="module")
def report(checkout: Checkout) -> dict[str, Any]:
    """What a driver saw that was started from another folder with options on both sides."""
    elsewhere = checkout.root.parent / "else where"
    elsewhere.mkdir()
    spark_options = ["--conf", "spark.sql.shuffle.partitions=3", "--driver-memory", "700m"]
    job_options = ["seen.json", "a lake", "--input", "two  words", "*"]
    result = subprocess.run(
        [checkout.script, *spark_options, "report", *job_options],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 8, result.stderr
    seen: dict[str, Any] = json.loads((elsewhere / "seen.json").read_text())
    return seen | {"stderr": result.stderr, "elsewhere": str(elsewhere)}


def test_the_jobs_options_reach_it_untouched(report: dict[str, Any]) -> None:
    assert report["arguments"] == ["seen.json", "a lake", "--input", "two  words", "*"]


def test_the_job_runs_in_the_callers_folder(report: dict[str, Any]) -> None:
    assert report["folder"] == report["elsewhere"]


def test_the_environments_settings_hold_before_the_jvm_starts(report: dict[str, Any]) -> None:
    assert report["conf"]["spark.master"] == "local[*,4]"


def test_sparks_options_outweigh_the_environments(report: dict[str, Any]) -> None:
    assert report["conf"]["spark.sql.shuffle.partitions"] == "3"
    assert 600 * 2**20 < report["heap"] < 701 * 2**20


def test_driver_and_workers_use_the_environments_python(
    checkout: Checkout, report: dict[str, Any]
) -> None:
    python = str(checkout.root / ".venv" / "bin" / "python")
    assert (report["driver"], report["worker"]) == (python, python)


def test_no_run_resolves_packages(report: dict[str, Any]) -> None:
    assert "spark.jars.packages" not in report["conf"]
    assert "delta-spark" in report["conf"]["spark.driver.extraClassPath"]


def test_the_terminal_is_left_to_the_job(report: dict[str, Any]) -> None:
    lines = [line for line in report["stderr"].splitlines() if "incubator modules" not in line]
    assert lines == []


def test_the_first_captioning_leaves_its_classes_to_all_later_jvms(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.add_job("caption_images", MAPPED)

    def archives(**variables: str) -> list[Path]:
        """Return the archives that a JVM uses which a run starts, and check what is printed."""
        result = subprocess.run(
            [checkout.script, "caption_images", "maps"],
            env=os.environ | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "cds" not in result.stdout + result.stderr
        maps = (tmp_path / "maps").read_text()
        return [file for file in (checkout.root / ".cache").glob("classes-*") if str(file) in maps]

    assert archives() == []
    assert (tmp_path / "archiving").read_text() == "1"
    (made,) = (checkout.root / ".cache").glob("classes-*")
    assert archives() == [made]
    assert (tmp_path / "archiving").read_text() == "no"
    (tmp_path / "core-site.xml").write_text("<configuration/>")
    assert archives(HADOOP_CONF_DIR=str(tmp_path)) == [made]


@contextlib.contextmanager
def patient_job(checkout: Checkout, notes: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the job in a process group of its own, as a scheduler does, and wait until it works."""
    notes.unlink(missing_ok=True)
    # A test run in the background of a shell ignores SIGINT, and so would all that it starts.
    command = ["env", "--default-signal=INT", checkout.script]
    command += ["--driver-memory", "600m", "patient", str(notes)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until(lambda: notes.exists() and notes.read_text().count(" ") == 1, seconds=90.0)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_driver_while_spark_still_works(
    checkout: Checkout, tmp_path: Path, number: signal.Signals
) -> None:
    with patient_job(checkout, tmp_path / "notes") as process:
        os.killpg(process.pid, number)
        assert process.wait(120) == 143
    assert (tmp_path / "notes").read_text() == "counted 5 after 1 signal"


def test_a_run_that_is_stopped_goes_on_when_it_may(checkout: Checkout, tmp_path: Path) -> None:
    with patient_job(checkout, tmp_path / "notes") as process:
        java = psutil.Process(int((tmp_path / "notes").read_text().split()[1]))
        with paused(java):
            time.sleep(2)
        process.terminate()
        assert process.wait(120) == 143
    assert (tmp_path / "notes").read_text() == "counted 5 after 1 signal"


def test_nothing_goes_on_once_the_command_is_killed(checkout: Checkout, tmp_path: Path) -> None:
    with patient_job(checkout, tmp_path / "notes") as process:
        driver, java = map(int, (tmp_path / "notes").read_text().split())
        process.kill()
        process.wait()
        wait_until(lambda: not is_running(driver) and not is_running(java), seconds=90.0)
