"""Files that kill or hang their decoder end as rejects, and the next file is decoded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.images import DecodeLimits, preprocess_image
from models.isolation import IsolatedPreprocessor
from tests import faulty_decoding as faults
from tests.images.catalogue import good_files
from tests.images.encoding import pillow

SIZE = 16
LIMITS, HURRY = DecodeLimits(), DecodeLimits(timeout_seconds=1.0)
GOOD = pillow(np.full((20, 30, 3), (1, 2, 3), np.uint8), "PNG")


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedPreprocessor]:
    with IsolatedPreprocessor(function=faults.decode_or_fail) as preprocessor:
        yield preprocessor


def test_good_files_give_what_they_give_without_isolation(isolated: IsolatedPreprocessor) -> None:
    for file in good_files()[:20]:
        here = preprocess_image(file.data, size=SIZE)
        there = isolated.preprocess(file.data, size=SIZE, limits=LIMITS)
        assert here.pixels is not None
        assert there.pixels is not None
        assert np.array_equal(here.pixels, there.pixels)
        assert here[1:] == there[1:]


def test_bad_files_keep_their_own_reason(isolated: IsolatedPreprocessor) -> None:
    assert isolated.preprocess(b"text", size=SIZE, limits=LIMITS).reason == "not_an_image"


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        (faults.SEGFAULT, "died of SIGSEGV"),
        (faults.ABORT, "died of SIGABRT"),
        (faults.EXIT, "ended with status 3"),
        (faults.RAISE, "ended with status 1"),
    ],
)
def test_a_file_that_kills_its_process_is_rejected(
    isolated: IsolatedPreprocessor, fault: bytes, ending: str
) -> None:
    outcome = isolated.preprocess(fault, size=SIZE, limits=LIMITS)
    assert outcome.reason == "worker_killed"
    assert outcome.detail is not None
    assert ending in outcome.detail


@pytest.mark.parametrize("fault", [faults.LOOP, faults.NATIVE_LOOP])
def test_an_endless_decode_ends_at_its_time_limit(
    isolated: IsolatedPreprocessor, fault: bytes
) -> None:
    isolated.preprocess(GOOD, size=SIZE, limits=LIMITS)
    started = time.monotonic()
    outcome = isolated.preprocess(fault, size=SIZE, limits=HURRY)
    assert outcome.reason == "decode_timeout"
    assert time.monotonic() - started < 10


def test_memory_without_end_kills_only_the_child() -> None:
    with IsolatedPreprocessor(memory_bytes=1 << 30, function=faults.decode_or_fail) as isolated:
        assert isolated.preprocess(faults.SWELL, size=SIZE, limits=LIMITS).reason == "worker_killed"
        assert isolated.preprocess(GOOD, size=SIZE, limits=LIMITS).reason is None


def test_an_image_that_needs_more_memory_than_there_is_may_be_tried_again() -> None:
    large = pillow(np.zeros((9000, 9000), np.uint8), "PNG", compress_level=1)
    with IsolatedPreprocessor(memory_bytes=64 << 20) as isolated:
        outcome = isolated.preprocess(large, size=SIZE, limits=LIMITS)
        assert outcome.reason == "worker_killed"
        assert outcome.detail == "not enough memory to decode"
        assert isolated.preprocess(GOOD, size=SIZE, limits=LIMITS).reason is None


def test_neighbours_of_a_killer_are_decoded(isolated: IsolatedPreprocessor) -> None:
    batch = [GOOD, faults.SEGFAULT, GOOD, faults.ABORT, GOOD]
    outcomes = [isolated.preprocess(data, size=SIZE, limits=LIMITS) for data in batch]
    assert [outcome.reason for outcome in outcomes] == [
        None,
        "worker_killed",
        None,
        "worker_killed",
        None,
    ]


def test_a_child_killed_between_two_files_harms_neither(isolated: IsolatedPreprocessor) -> None:
    assert isolated.preprocess(GOOD, size=SIZE, limits=LIMITS).reason is None
    child = isolated.process_id
    assert child is not None
    os.kill(child, signal.SIGKILL)
    wait_until_gone(child)
    assert isolated.preprocess(GOOD, size=SIZE, limits=LIMITS).reason is None


def test_threads_share_one_child_and_get_their_own_pixels(isolated: IsolatedPreprocessor) -> None:
    files = [pillow(np.full((9, 9, 3), value, np.uint8), "PNG") for value in range(40)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = pool.map(lambda data: isolated.preprocess(data, size=8, limits=LIMITS), files)
    values = [outcome.pixels[0, 0, 0] for outcome in outcomes if outcome.pixels is not None]
    assert values == list(range(40))


def test_no_child_is_left_after_the_end() -> None:
    with IsolatedPreprocessor() as isolated:
        isolated.preprocess(GOOD, size=SIZE, limits=LIMITS)
        child = isolated.process_id
    assert child is not None
    assert not Path(f"/proc/{child}").exists()


def wait_until_gone(process_id: int) -> None:
    """A killed child stays a zombie until its parent asks; either state will do."""
    for _ in range(200):
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("still alive")
