"""Bounds-checked reads from untrusted bytes, and the exception that ends a hopeless decode."""

from __future__ import annotations

import struct

from models.reasons import Reason


class RefusedError(Exception):
    """The bytes can't become pixels; `models.images` turns it into a rejected outcome."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def unpack(form: str, data: bytes, offset: int) -> tuple[int, ...]:
    """Integers of `struct` format `form` at `offset`.

    Raises RefusedError(truncated) where the data ends first.
    """
    try:
        values: tuple[int, ...] = struct.unpack_from(form, data, offset)
    except (struct.error, OverflowError):  # the latter from offsets beyond the platform's size
        raise RefusedError(Reason.TRUNCATED, f"ends before byte {offset}") from None
    return values


def corrupt(detail: str) -> RefusedError:
    """The error to raise for a header that contradicts itself."""
    return RefusedError(Reason.CORRUPT, detail)


def unsupported(detail: str) -> RefusedError:
    """The error to raise for a variant that is not read."""
    return RefusedError(Reason.UNSUPPORTED_FORMAT, detail)


def truncated(detail: str) -> RefusedError:
    """The error to raise where bytes are missing."""
    return RefusedError(Reason.TRUNCATED, detail)
