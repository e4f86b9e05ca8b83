"""Photographs to measure with: seeded crops and qualities of real ones, each with its own bytes."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models.samples import sample_photographs

WIDTH, HEIGHT = 640, 480
SMALLEST_CROP = 0.6  # share of the largest 4:3 window of the source
QUALITIES = (70, 95)
MOST_SOURCES = 200  # held decoded: a few hundred MB

Picture = npt.NDArray[np.uint8]
Size = tuple[int, int]


def find_photographs(folder: Path | None) -> list[Path]:
    """Return the files of a folder, sorted, or the installed packages' samples without one."""
    if folder is None:
        return list(sample_photographs())
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not files:
        raise SystemExit(f"{folder} is no folder that holds files; name one with photographs.")
    return files


def prepare_photographs(
    cache: Path, *, count: int, seed: int, source: Path | None, scale: float = 1.0
) -> Path:
    """Return a folder of `count` JPEG files, made once per seed and source.

    Args:
        cache: holds the folders.
        count: how many files.
        seed: decides the crops and qualities.
        source: folder of photographs to crop; the installed packages' samples if None.
        scale: of their sides, upon 640x480.
    """
    files = find_photographs(source)[:MOST_SOURCES]
    name = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]
    size = int(WIDTH * scale), int(HEIGHT * scale)
    folder = cache / f"photographs-{name}-{size[0]}x{size[1]}-{seed}-{count}"
    if not folder.is_dir():
        _write_all(folder, files, count=count, seed=seed, size=size)
    return folder


def _write_all(folder: Path, files: Sequence[Path], *, count: int, seed: int, size: Size) -> None:
    pictures = [picture for picture in map(_read, files) if picture is not None]
    if not pictures:
        raise SystemExit("None of the given photographs can be decoded.")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def write(number: int, *, draw: int = 0) -> bytes:
        data = make_photograph(pictures, seed=seed, number=number + draw * count, size=size)
        (part / f"{number:06d}.jpg").write_bytes(data)
        return hashlib.sha256(data).digest()

    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(write, range(count)))
    seen: set[bytes] = set()
    for number, first in enumerate(digests):
        draws = itertools.chain([first], (write(number, draw=k) for k in itertools.count(1)))
        seen.add(next(digest for digest in draws if digest not in seen))
    part.rename(folder)


def make_photograph(
    pictures: Sequence[Picture], *, seed: int, number: int, size: Size = (WIDTH, HEIGHT)
) -> bytes:
    """Return one JPEG: a random crop of a random picture, half of them mirrored."""
    draw = np.random.default_rng((seed, number))
    picture = pictures[int(draw.integers(len(pictures)))]
    window = _window(picture, draw)
    if draw.integers(2):
        window = window[:, ::-1]
    sized = cv2.resize(np.ascontiguousarray(window), size, interpolation=cv2.INTER_AREA)
    quality = int(draw.integers(*QUALITIES))
    return cv2.imencode(".jpg", sized, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _window(picture: Picture, draw: np.random.Generator) -> Picture:
    rows, columns = picture.shape[:2]
    share = draw.uniform(SMALLEST_CROP, 1.0)
    width = int(min(columns, rows * WIDTH / HEIGHT) * share)
    height = width * HEIGHT // WIDTH
    top = int(draw.integers(rows - height + 1))
    left = int(draw.integers(columns - width + 1))
    return picture[top : top + height, left : left + width]


def _read(file: Path) -> Picture | None:
    picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else np.asarray(picture, np.uint8)
