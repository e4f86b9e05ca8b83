"""Why an image was rejected: the stable codes of the `reason` column.

A permanent reason lies in the bytes, so the file is not tried again until it changes. A transient
one lies in the moment (storage, time, memory), so later runs try again. Codes are never renamed:
analysts' queries depend on them. `docs/reasons.md` is the same table for readers.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A stable reason code; compares equal to its text in the table."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    OUT_OF_RANGE = "out_of_range"
    VANISHED = "vanished"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    DECODE_TIMEOUT = "decode_timeout"
    WORKER_KILLED = "worker_killed"

    @property
    def is_transient(self) -> bool:
        """Whether a later run tries the file again although it hasn't changed."""
        return self in TRANSIENT

    @property
    def description(self) -> str:
        """One line for people."""
        return DESCRIPTIONS[self]


TRANSIENT: frozenset[Reason] = frozenset(
    {
        Reason.VANISHED,
        Reason.CHANGED,
        Reason.UNREADABLE,
        Reason.DECODE_TIMEOUT,
        Reason.WORKER_KILLED,
    }
)

DESCRIPTIONS: dict[Reason, str] = {
    Reason.EMPTY: "The file holds no bytes.",
    Reason.NOT_AN_IMAGE: "The content is no image at all: text, HTML, an archive, noise.",
    Reason.UNSUPPORTED_FORMAT: "An image, but of a format or variant that is not read.",
    Reason.TRUNCATED: "The image ends before its last pixel.",
    Reason.CORRUPT: "The image is whole in length but its content can't be decoded.",
    Reason.TOO_LARGE: "More bytes or pixels than the limits allow, or a JPEG of too many scans.",
    Reason.OUT_OF_RANGE: "A floating-point image with values that are not finite in 0 to 1.",
    Reason.VANISHED: "Listed, but gone when it was read.",
    Reason.CHANGED: "Size or modification time differ between listing and reading.",
    Reason.UNREADABLE: "The storage refused or failed to give the bytes.",
    Reason.DECODE_TIMEOUT: "Decoding took longer than the time limit.",
    Reason.WORKER_KILLED: "Decoding crashed its process or ran out of memory.",
}
