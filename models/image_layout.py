"""The facts that every format's header parser hands to the decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Size and peculiarities of the first image in a file.

    width, height: pixels as stored, before orientation.
    bytes_per_pixel: upper bound of what decoding holds per pixel, native buffers included.
    orientation: EXIF 1-8; 1 also where the decoder itself turns the image.
    is_turned: whether width and height change places when shown.
    decodable: the bytes to give to OpenCV where they differ from the file's.
    """

    width: int
    height: int
    orientation: int = 1
    is_turned: bool = False
    decodable: bytes | None = None
    transparent_grey: int | None = None
    is_premultiplied: bool = False
    ignores_alpha: bool = False
    is_inverted: bool = False
    work_factor: int = 1

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) after orientation."""
        return (self.height, self.width) if self.is_turned else (self.width, self.height)
