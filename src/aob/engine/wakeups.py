"""When which run must be looked at: one timer of the process for all of them, in memory or not."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from aob.clock import Clock, Handle


class Wakeups:
    """Earliest due time by run key.

    Args:
        wake: called with the keys of runs that are due.
    """

    def __init__(self, clock: Clock, wake: Callable[[list[int]], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._due: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        self._timer: Handle | None = None
        self._armed = 0
        self._stopped = False

    def set(self, key: int, due_us: int | None) -> None:
        """Wake this run at `due_us` (None: not by time)."""
        if due_us is None:
            self._due.pop(key, None)
            return
        self._due[key] = due_us
        heappush(self._heap, (due_us, key))
        if len(self._heap) > 4 * len(self._due) + 64:
            self._heap = [(due, key) for key, due in self._due.items()]
            heapify(self._heap)
        if self._timer is None or due_us < self._armed:
            self._arm()

    def set_many(self, dues: list[tuple[int, int | None]]) -> None:
        """Wake these runs, given by key, at their times; what is said later of one of them counts instead."""
        new = {key: due for key, due in dues if due is not None and key not in self._due}
        self._due |= new
        self._heap += [(due, key) for key, due in new.items()]
        heapify(self._heap)
        self._arm()

    def stop(self) -> None:
        """Wake nobody any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        if not heap or self._stopped:
            return
        self._armed = heap[0][0]
        self._timer = self._clock.call_at(self._armed, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.now_us()
        due: list[int] = []
        while self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                due.append(key)
        self._arm()
        if due:
            self._wake(due)
