"""Work spread over a fixed number of lanes, each of which does one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Lane = TypeVar("Lane")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_lanes(
    work: Callable[[Lane, Item], Result], lanes: Sequence[Lane], items: Iterable[Item]
) -> list[Result]:
    """Results of ``work(lane, item)`` in the order of the items, a thread per lane.

    A lane takes the next item when it has done one. A single lane works in the caller's thread.
    Raises what the first item that failed raised.
    """
    if len(lanes) == 1:
        return [work(lanes[0], item) for item in items]
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def take(item: Item) -> Result:
        lane = free.get()
        try:
            return work(lane, item)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(take, items))
