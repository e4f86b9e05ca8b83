"""The facts that every format's header parser hands to the decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Size and peculiarities of the first image in a file.

    Attributes:
        width: pixels as stored, before orientation.
        height: likewise.
        orientation: EXIF 1-8 to apply; 1 also where OpenCV itself turns the image.
        is_turned: whether width and height change places when shown.
        decodable: the bytes to give to OpenCV where they differ from the file's.
        reads_as_colour: OpenCV shall give BGR; otherwise whatever the file holds.
        transparent_grey: this grey value is transparent.
        is_inverted: 0 means white.
        is_premultiplied: colours are already multiplied by alpha.
        ignores_alpha: the fourth channel means something else.
        unset_alpha_is_opaque: alpha of 0 everywhere means that nobody wrote it.
        tile_pixels: of one tile, which may be larger than the image.
        bytes_per_pixel: at most so many hold one decoded pixel.
        scans: how many times decoding walks over all pixels.
    """

    width: int
    height: int
    orientation: int = 1
    is_turned: bool = False
    decodable: bytes | None = None
    reads_as_colour: bool = False
    transparent_grey: int | None = None
    is_inverted: bool = False
    is_premultiplied: bool = False
    ignores_alpha: bool = False
    unset_alpha_is_opaque: bool = False
    tile_pixels: int = 0
    bytes_per_pixel: int = 4
    scans: int = 1

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) after orientation."""
        return (self.height, self.width) if self.is_turned else (self.width, self.height)
