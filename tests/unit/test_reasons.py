"""The reason codes and their table for readers say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.reasons import Reason

TABLE = Path(__file__).parents[2] / "docs" / "reasons.md"


def documented() -> dict[str, tuple[str, str]]:
    """Code to (permanent or transient, meaning), as docs/reasons.md has it."""
    rows = [line.strip("|").split("|") for line in TABLE.read_text().splitlines() if "| `" in line]
    return {code.strip(" `"): (kind.strip(), meaning.strip()) for code, kind, meaning in rows}


def test_every_reason_is_documented_as_it_is() -> None:
    assert documented() == {
        reason.value: ("transient" if reason.is_transient else "permanent", reason.description)
        for reason in Reason
    }


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_short_word(reason: Reason) -> None:
    assert reason.value.replace("_", "").islower()
    assert reason.description.endswith(".")
