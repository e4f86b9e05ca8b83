"""What makes the benchmark's figures trustworthy: distinct inputs, kept rounds, right ratios."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.shared.counting import counted
from benchmarks.shared.decoding_speed import images_per_second
from benchmarks.shared.memory import DRIVER, watching_memory
from benchmarks.shared.photographs import find_photographs, prepare_photographs
from benchmarks.shared.results import Results, Round, Setting
from benchmarks.shared.table import as_markdown, replace_in
from models.samples import sample_photographs


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())]


def finished(contestant: str, seconds: float, *, repeat: int = 1, is_sweep: bool = False) -> Round:
    setting = Setting(2, 64, "inline") if contestant == "bare loop" else None
    return Round(
        "default", contestant, "p-1-100", repeat, is_sweep, setting, 100, seconds, seconds + 10
    )


def test_only_the_files_of_a_folder_are_measured(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(SystemExit, match="no folder that holds files"):
        find_photographs(tmp_path)
    with pytest.raises(SystemExit, match="no folder that holds files"):
        find_photographs(tmp_path / "none")
    (tmp_path / "a.jpg").touch()
    assert find_photographs(tmp_path) == [tmp_path / "a.jpg"]


def test_photographs_are_distinct_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    first = prepare_photographs(tmp_path / "a", count=20, seed=1, source=None)
    again = prepare_photographs(tmp_path / "b", count=20, seed=1, source=None)
    other = prepare_photographs(tmp_path / "b", count=20, seed=2, source=None)
    assert len(set(digests(first))) == 20
    assert digests(first) == digests(again)
    assert not set(digests(first)) & set(digests(other))
    picture = cv2.imread(str(first / "000000.jpg"))
    assert np.asarray(picture).shape == (480, 640, 3)


def test_rounds_survive_an_interruption(tmp_path: Path) -> None:
    file = tmp_path / "rounds.jsonl"
    kept = finished("bare loop", 2.0)
    Results(file).add(kept)
    assert Results(file).find(kept.key()) == kept
    assert Results(file).find(finished("bare loop", 2.0, is_sweep=True).key()) is None


def test_the_table_compares_medians_and_leaves_sweeps_out() -> None:
    rounds = [finished("bare loop", seconds, repeat=n) for n, seconds in enumerate((1, 2, 4))]
    rounds += [finished("bare loop", 0.1, is_sweep=True)]
    rounds += [finished("pipeline, local files", 2.5), finished("naive Spark", 10)]
    rows = as_markdown(rounds, command="make bench").splitlines()[-3:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[1:6] for row in cells] == [
        ["bare loop", "50.0", "25.0 to 100.0", "1.00", "0.80"],
        ["pipeline, local files", "40.0", "40.0 to 40.0", "0.80", ""],
        ["naive Spark", "10.0", "10.0 to 10.0", "0.20", "4.00"],
    ]


def test_the_table_takes_its_place_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- throughput -->\nold\n<!-- /throughput -->\nafter\n")
    replace_in(file, "| new |")
    assert file.read_text() == (
        "before\n<!-- throughput -->\n| new |\n<!-- /throughput -->\nafter\n"
    )


def test_inferences_of_all_processes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "11").write_text("64\n36\n")
    (tmp_path / "12").write_text("5\n")
    assert counted(tmp_path) == 105


def test_memory_is_told_of_a_process_that_another_thread_started() -> None:
    program = "import time, sys; held = bytearray(60 << 20); time.sleep(60)"
    started: list[subprocess.Popen[bytes]] = []

    def start_and_stay() -> None:
        started.append(subprocess.Popen([sys.executable, "-c", program, "jobs/measured.py"]))
        started[0].wait()

    thread = threading.Thread(target=start_and_stay)
    thread.start()
    try:
        with watching_memory(os.getpid(), period_seconds=0.1) as log:
            deadline = time.monotonic() + 30
            while max(log.quarters(DRIVER), default=0) < 60 and time.monotonic() < deadline:
                time.sleep(0.05)
        assert max(log.quarters(DRIVER)) >= 60
    finally:
        started[0].kill()
        thread.join()


def test_the_gpu_benchmark_needs_no_spark_tensorflow_or_openvino() -> None:
    script = (
        "import sys, benchmarks.gpu;"
        "unwanted = ('keras', 'tensorflow', 'pyspark', 'openvino', 'pydantic', 'mlflow');"
        "print([name for name in unwanted if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_rate_of_decoding_counts_what_is_decoded() -> None:
    files = [file.read_bytes() for file in sample_photographs()[:3]]
    assert images_per_second(files, size=64, processes=2, seconds=0.2) > 1
    assert images_per_second([b"no photograph"], size=64, processes=2, seconds=0.2) == 0
