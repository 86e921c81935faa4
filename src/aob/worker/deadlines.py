"""The deadlines of all attempts of a process, behind one timer."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from aob.clock import Clock, Handle


class Deadlines:
    """Calls `passed(item, now)` when an item's deadline is reached. Times are monotonic seconds.

    An item may have several; `forget` drops all of them.
    """

    def __init__(self, clock: Clock, passed: Callable[[Any, float], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._heap: list[tuple[float, int, Any]] = []
        self._live: dict[int, int] = {}
        self._count = 0
        self._timer: Handle | None = None
        self._armed = 0.0

    def add(self, due: float, item: Any) -> None:
        """Watch an item."""
        self._count += 1
        key = id(item)
        self._live[key] = self._live.get(key, 0) + 1
        heappush(self._heap, (due, self._count, item))
        if self._timer is None or due < self._armed:
            self._arm()

    def forget(self, item: Any) -> None:
        """The item is over."""
        self._live.pop(id(item), None)
        if len(self._heap) > 256 and len(self._heap) > 4 * len(self._live):
            self._heap = [entry for entry in self._heap if id(entry[2]) in self._live]
            heapify(self._heap)

    def stop(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._armed = self._heap[0][0]
            self._timer = self._clock.call_later(max(self._armed - self._clock.monotonic(), 0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            _, _, item = heappop(self._heap)
            if id(item) in self._live:
                self._passed(item, now)
        self._arm()
