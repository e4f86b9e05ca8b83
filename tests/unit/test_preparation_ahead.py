"""Decode threads go on while the task's own thread is busy with the model."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from udfs.budget import TaskBudget
from udfs.outcome import Outcome
from udfs.preparation import Prepared, map_ahead
from udfs.sources import Content, SourceFile

AHEAD, THREADS = 16, 2


class Decoding:
    """Counts the files that were prepared."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self, file: SourceFile) -> Prepared:
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        return Prepared(Outcome(file.path))

    def reaches(self, count: int, *, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, seconds)


def files(count: int) -> Iterator[SourceFile]:
    for number in range(count):
        yield SourceFile(str(number), lambda: Content(None))


def start(decoding: Decoding, source: Iterator[SourceFile]) -> Iterator[Prepared]:
    budget = TaskBudget(decodes_ahead=True)
    return map_ahead(decoding, source, threads=THREADS, ahead=AHEAD, budget=budget)


def test_a_whole_batch_is_prepared_while_the_one_before_is_inferred() -> None:
    decoding = Decoding()
    prepared = start(decoding, files(100))
    next(prepared)
    assert decoding.reaches(1 + AHEAD, seconds=30)  # and nobody has asked for a second one
    assert not decoding.reaches(1 + AHEAD + 2, seconds=0.2)
    assert [one.outcome.path for one in prepared] == [str(number) for number in range(1, 100)]


def test_what_reading_raises_comes_after_what_was_read() -> None:
    def breaking() -> Iterator[SourceFile]:
        yield from files(3)
        raise OSError("the storage is gone")

    prepared = start(Decoding(), breaking())
    assert [next(prepared).outcome.path for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(OSError, match="storage is gone"):
        next(prepared)


def test_nothing_is_read_after_the_consumer_has_given_up() -> None:
    taken: list[str] = []

    def noting() -> Iterator[SourceFile]:
        for file in files(1000):
            taken.append(file.path)
            yield file

    prepared = start(Decoding(), noting())
    next(prepared)
    prepared.close()  # type: ignore[attr-defined]
    assert len(taken) <= AHEAD + 2 * THREADS + 2
