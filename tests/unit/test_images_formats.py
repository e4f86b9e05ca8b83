"""Every kind of image file becomes the pixels that it shows."""

from __future__ import annotations

import pytest

from models.images import preprocess_image
from tests.images.catalogue import GoodFile, good_files
from tests.images.drawing import HEIGHT, SIDE, WIDTH, differences


@pytest.mark.parametrize("file", good_files(), ids=lambda file: file.name)
def test_a_good_file_shows_its_drawing(file: GoodFile) -> None:
    outcome = preprocess_image(file.data, size=SIDE)
    assert outcome[1:] == (WIDTH, HEIGHT, file.format, None, None)
    distances = differences(outcome.pixels, file.expected)
    assert distances.mean() <= 4 if file.is_lossy else distances.max() <= 1
