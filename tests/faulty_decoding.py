"""A decoder that crashes, hangs or swells for certain bytes, and really does so.

Child processes import it by name, so it can't live in a test module.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import threading
from collections.abc import Callable

from models.images import DecodeLimits, Preprocessed, preprocess_image

SEGFAULT, ABORT, LOOP, NATIVE_LOOP, SWELL, RAISE, EXIT = (
    b"segfault",
    b"abort",
    b"loop",
    b"native loop",
    b"swell",
    b"raise",
    b"exit",
)


def decode_or_fail(data: bytes, *, size: int, limits: DecodeLimits) -> Preprocessed:
    """As `preprocess_image`, unless the bytes name a fault."""
    faults: dict[bytes, Callable[[], object]] = {
        SEGFAULT: lambda: ctypes.string_at(0),
        ABORT: os.abort,
        LOOP: loop_forever,
        NATIVE_LOOP: loop_in_native_code,
        SWELL: swell,
        RAISE: raise_an_error,
        EXIT: lambda: os._exit(3),
    }
    if data in faults:
        faults[data]()
    return preprocess_image(data, size=size, limits=limits)


def loop_forever() -> None:
    while True:
        pass


def loop_in_native_code() -> None:
    """Never return to Python, and heed no Python signal handler meanwhile."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    libc = ctypes.CDLL(None)  # a call through CDLL gives up the interpreter lock, as OpenCV does
    while True:
        libc.sleep(1000)


def swell() -> None:
    """Take memory without end, as a decoder fooled by its header would."""
    held = []
    while True:
        held.append(mmap.mmap(-1, 256 << 20))


def raise_an_error() -> None:
    raise RuntimeError(f"a bug in {threading.current_thread().name}")
