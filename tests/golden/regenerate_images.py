"""Rewrite the golden images and what preprocessing makes of them.

Run `python -m tests.golden.regenerate_images` only when preprocessing is meant to change: every
model then needs a new package, because its preprocessing fingerprint no longer matches.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from models.images import preprocess_image, preprocessing_fingerprint
from tests.images.catalogue import good_files
from tests.images.encoding import exif_of, pillow

FOLDER = Path(__file__).parent / "images"
ANSWERS = FOLDER / "answers.json"
SIZE, FINGERPRINT_SIZE = 32, 224
# One of each kind that a decoder may treat differently; small, and drawn by this project.
CHOSEN = (
    "jpeg-baseline",
    "jpeg-progressive",
    "jpeg-grey",
    "jpeg-cmyk",
    "png-rgb8",
    "png-rgba16",
    "png-grey1-interlaced",
    "png-palette-trns",
    "webp-lossy",
    "webp-animated-alpha",
    "gif-transparent",
    "bmp-8-rle",
    "tiff-tiff_lzw",
    "tiff-float32",
)


def draw_scene(width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3]: large enough for a scaled-down JPEG decode, with edges and gradients."""
    y, x = np.mgrid[:height, :width]
    scene = np.stack([x * 255 // width, y * 255 // height, (x + y) // 3 % 256], axis=-1)
    scene[(x - width // 3) ** 2 + (y - height // 2) ** 2 < (height // 4) ** 2] = (250, 200, 20)
    scene[(x // 7 + y // 5) % 9 == 0] //= 2
    return scene.astype(np.uint8)


def make_files() -> dict[str, bytes]:
    """File name to content."""
    files = {
        f"{file.name}.{file.format}": file.data for file in good_files() if file.name in CHOSEN
    }
    for orientation in range(1, 9):
        picture = draw_scene(80, 56)
        files[f"orientation-{orientation}.jpeg"] = pillow(
            picture, "JPEG", quality=80, exif=exif_of(orientation)
        )
    files["scene.jpeg"] = pillow(draw_scene(200, 150), "JPEG", quality=80)
    return files


def describe(data: bytes) -> dict[str, Any]:
    """What preprocessing makes of a file, in comparable form."""
    outcome = preprocess_image(data, size=SIZE)
    if outcome.pixels is None:
        raise ValueError(outcome)
    return {
        "width": outcome.width,
        "height": outcome.height,
        "format": outcome.format,
        "mean_rgb": [round(float(mean), 2) for mean in outcome.pixels.mean(axis=(0, 1))],
        "pixels_sha256": hashlib.sha256(outcome.pixels.tobytes()).hexdigest(),
    }


def main() -> None:
    """Write the images, then the answers."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    files = make_files()
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
    answers = {
        "fingerprint_of_size_224": preprocessing_fingerprint(size=FINGERPRINT_SIZE),
        "images": {name: describe(data) for name, data in sorted(files.items())},
    }
    ANSWERS.write_text(json.dumps(answers, indent=2) + "\n")


if __name__ == "__main__":
    main()
