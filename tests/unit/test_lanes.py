from __future__ import annotations

import threading

import pytest

from models.lanes import in_lanes


def test_results_come_in_the_order_of_the_items() -> None:
    first_may_end = threading.Event()

    def work(lane: str, item: int) -> int:
        if item == 0:
            assert first_may_end.wait(60)
        if item == 5:
            first_may_end.set()
        return item * item

    assert in_lanes(work, ["a", "b"], range(6)) == [0, 1, 4, 9, 16, 25]


def test_every_lane_works_at_one_item_at_a_time() -> None:
    together = threading.Barrier(3)
    busy: set[str] = set()

    def work(lane: str, item: int) -> str:
        assert lane not in busy
        busy.add(lane)
        together.wait(60)  # only three lanes at work at once let anyone go on
        busy.remove(lane)
        return lane

    lanes = in_lanes(work, ["a", "b", "c"], range(12))
    assert all(set(lanes[at : at + 3]) == {"a", "b", "c"} for at in range(0, 12, 3))


def test_a_single_lane_needs_no_thread() -> None:
    threads = in_lanes(lambda _lane, _item: threading.current_thread(), ["a"], range(3))
    assert set(threads) == {threading.current_thread()}


@pytest.mark.parametrize("lanes", [["a"], ["a", "b"]])
def test_a_failure_is_raised(lanes: list[str]) -> None:
    def work(_lane: str, item: int) -> None:
        if item == 3:
            raise ValueError("item 3")

    with pytest.raises(ValueError, match="item 3"):
        in_lanes(work, lanes, range(9))
