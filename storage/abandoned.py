"""Queries that were left behind without an answer; they can't be stopped.

One that is at work while Python ends may crash the process, after all has been said and done.
"""

from __future__ import annotations

_tables: set[str] = set()


def abandon(uri: str) -> None:
    """Remember that a query of this table goes on, unheard."""
    _tables.add(uri)


def is_abandoned(uri: str) -> bool:
    """Whether a query of this table was left behind."""
    return uri in _tables


def is_any_abandoned() -> bool:
    """Whether a query of any table was left behind."""
    return bool(_tables)
