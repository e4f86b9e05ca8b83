"""The campaign's judgement of commits tells a part of a chunk from a chunk."""

from __future__ import annotations

import pytest

from tests.faults.observer import Commits, parts_of_chunks


def odd_sizes(*sizes: int, rows_before: int = 0) -> list[int]:
    runs = {"run": Commits(rows_before, list(sizes))}
    found = parts_of_chunks(runs, night_files=20, first_files=1, chunk_files=8)
    return found.get("run", [])


@pytest.mark.parametrize(
    ("rows_before", "sizes"),
    [
        (0, [1, 8, 8, 3]),  # to the end
        (0, [1]),  # died after its first chunk
        (0, [1, 8]),  # died later
        (20, [1, 8, 8, 3]),  # of the second night
        (29, [1, 8, 2]),  # after a run that died in the second night
        (19, [1]),
    ],
)
def test_whole_chunks_are_passed(rows_before: int, sizes: list[int]) -> None:
    assert odd_sizes(*sizes, rows_before=rows_before) == []


@pytest.mark.parametrize(
    ("rows_before", "sizes", "odd"),
    [
        (0, [1, 5], [5]),  # the last commit before a death
        (0, [1, 8, 5, 6], [5, 6]),
        (0, [2], [2]),
        (0, [1, 8, 8, 2], [2]),  # one file of the last chunk is missing
        (19, [1, 1], [1]),  # nothing was left
    ],
)
def test_a_part_of_a_chunk_is_told(rows_before: int, sizes: list[int], odd: list[int]) -> None:
    assert odd_sizes(*sizes, rows_before=rows_before) == odd
