"""Look for bytes that decoding can't stand, and keep those that reach code of their own.

Needs atheris, which is no dependency of the project: `pip install atheris==3.0.0`. Two commands
extend the corpus that `tests/unit/test_images_fuzzed.py` replays:

    python -m tests.golden.fuzz_images fuzz FOLDER -max_total_time=480
    python -m tests.golden.fuzz_images pack FOLDER

The first adds to FOLDER, beginning with the corpus and with the catalogue's files (their first 4096
bytes), and takes libFuzzer's options; it stops at bytes that break a promise, and leaves them in
the current folder. The second rewrites the corpus from FOLDER. OpenCV's own code is not
instrumented: what is explored is ours, which parses headers and decides what OpenCV may see.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.images import Preprocessed

CORPUS = Path(__file__).parent / "fuzzed_images.zip"
SIZE, MOST_PIXELS = 16, 1 << 16
MOST_BYTES = 4096  # of one entry
OF_EACH_OUTCOME = 4
MOST_ENTRIES, MOST_TOTAL_BYTES = 300, 400_000
_TIME_OF_ENTRIES = (2020, 1, 1, 0, 0, 0)  # equal files, equal archive


def preprocess(data: bytes) -> Preprocessed:
    """Decode under small limits."""
    from models.images import DecodeLimits, preprocess_image  # instrumented by the time of a call

    limits = DecodeLimits(max_file_bytes=1 << 20, max_pixels=MOST_PIXELS)
    return preprocess_image(data, size=SIZE, limits=limits)


def check(data: bytes) -> None:
    """Decode untrusted bytes twice.

    Raises AssertionError: neither pixels nor a permanent reason with words, pixels beyond the
    limit, or two different outcomes. Whatever else is raised is a defect too.
    """
    from models.reasons import Reason

    first, second = preprocess(data), preprocess(data)
    if first.pixels is None:
        assert not Reason(first.reason or "").is_transient, first
        assert first.detail, first
        assert second == first, (first, second)
        return
    assert first.reason is None, first
    assert first.pixels.shape == (SIZE, SIZE, 3), first.pixels.shape
    assert 0 < (first.width or 0) * (first.height or 0) <= MOST_PIXELS, first
    assert second.pixels is not None, second
    assert (first.pixels == second.pixels).all(), "two decodes, two pictures"


def read_corpus() -> dict[str, bytes]:
    """Name to bytes of every entry."""
    if not CORPUS.exists():
        return {}
    with zipfile.ZipFile(CORPUS) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_corpus(entries: Iterable[bytes]) -> None:
    """Pack the smallest entries, as many as the limits allow, in the order of their names."""
    kept: dict[str, bytes] = {}
    total = 0
    for data in _smallest_first(entries)[:MOST_ENTRIES]:
        total += len(data)
        if total <= MOST_TOTAL_BYTES:
            kept[hashlib.sha256(data).hexdigest()[:16]] = data
    with zipfile.ZipFile(CORPUS, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(kept.items()):
            archive.writestr(zipfile.ZipInfo(name, _TIME_OF_ENTRIES), data, zipfile.ZIP_DEFLATED)


def _smallest_first(entries: Iterable[bytes]) -> list[bytes]:
    return sorted(set(entries), key=lambda entry: (len(entry), entry))


def some_of_each_outcome(entries: Iterable[bytes]) -> list[bytes]:
    """The smallest entries of each format and outcome, which coverage of our code can't tell."""
    groups: dict[tuple[str | None, str | None], list[bytes]] = {}
    for data in _smallest_first(entries):
        outcome = preprocess(data)
        groups.setdefault((outcome.format, outcome.reason), []).append(data)
    return [data for group in groups.values() for data in group[:OF_EACH_OUTCOME]]


def seed(folder: Path) -> None:
    """Write the corpus and the beginnings of the catalogue's files into the folder."""
    from tests.images.catalogue import good_files

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {file.name: file.data[:MOST_BYTES] for file in good_files()}
    for name, data in (read_corpus() | drawn).items():
        (folder / name).write_bytes(data)


def pack(folder: Path) -> None:
    """Rewrite the corpus: as few files as reach the same code, and some of each outcome."""
    with tempfile.TemporaryDirectory() as least:
        command = [sys.executable, "-m", __spec__.name, "merge", least, str(folder), "-merge=1"]
        subprocess.run(command, check=True)
        least_files = [path.read_bytes() for path in Path(least).iterdir()]
    all_files = [path.read_bytes() for path in folder.iterdir()]
    write_corpus(least_files + some_of_each_outcome(all_files))


def main() -> None:
    """Run one of the commands; libFuzzer ends the process by itself."""
    command, folder, *options = sys.argv[1:]
    if command == "pack":
        pack(Path(folder))
        return
    import atheris

    with atheris.instrument_imports(include=["models"]):
        import models.images  # noqa: F401
    if command == "fuzz":
        seed(Path(folder))
    # libFuzzer merges in children: what it is told to be called is the start of their command.
    name = f"{sys.executable} -m {__spec__.name} merge"
    atheris.Setup([name, folder, f"-max_len={MOST_BYTES}", *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
