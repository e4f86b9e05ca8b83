"""What was withdrawn, as digests: the list keeps photographs out without naming them.

A digest is not secret: whoever guesses a path or holds the photograph can see that it is listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

PATH, IMAGE = "path", "image"


def digest_of(kind: str, value: str) -> str:
    """Return the list's form of a path (`PATH`) or an image id (`IMAGE`): hex SHA-256."""
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()


@dataclass(frozen=True)
class Exclusions:
    """The exclusion list at one moment; small, so that it travels to the workers.

    Attributes:
        paths: digests of qualified paths.
        images: digests of image ids.
    """

    paths: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is excluded."""
        return bool(self.paths or self.images)

    @property
    def fingerprint(self) -> str:
        """One text for one list; empty for an empty one."""
        return digest_of("list", " ".join(sorted(self.paths | self.images))) if self else ""

    def holds_path(self, path: str) -> bool:
        """Whether the file at this qualified path was withdrawn."""
        return bool(self.paths) and digest_of(PATH, path) in self.paths

    def holds_image(self, image_id: str | None) -> bool:
        """Whether the photograph with this SHA-256 was withdrawn, whatever its path."""
        return (
            bool(self.images) and image_id is not None and digest_of(IMAGE, image_id) in self.images
        )

    def paths_among(self, paths: Iterable[str]) -> frozenset[str]:
        """Return those of the qualified paths that were withdrawn."""
        return (
            frozenset(path for path in paths if self.holds_path(path))
            if self.paths
            else frozenset()
        )


NOTHING = Exclusions()
