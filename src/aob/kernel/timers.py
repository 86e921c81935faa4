"""A run's durable timers: which there are, which comes first, which are due."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from aob.kernel.loop import TimerHandle

INTERNAL = ("deadline#", "grace#", "start#")
"""Timers that the kernel sets for itself."""
URGENT = ("deadline#", "grace#")
"""Those that fire during a pause, too."""


class Timers:
    """Timers by id. One that is cancelled leaves no trace."""

    __slots__ = ("_count", "_heap", "_set")

    def __init__(self) -> None:
        self._count = 0
        self._set: dict[str, TimerHandle] = {}
        self._heap: list[TimerHandle] = []

    def add(self, timer: TimerHandle) -> None:
        """Watch a timer."""
        self._count = timer.number = self._count + 1
        self._set[timer.id] = timer
        heappush(self._heap, timer)

    def cancelled(self, timer: TimerHandle) -> None:
        """A timer was cancelled."""
        self._set.pop(timer.id, None)
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._set):
            self._heap = list(self._set.values())
            heapify(self._heap)

    def fired(self, id: str, due: int) -> TimerHandle | None:
        """The timer whose event this is; None when there is none with this due time."""
        timer = self._set.get(id)
        if timer is None or timer.due != due:
            return None
        del self._set[id]
        return timer

    def next_due(self, paused: bool = False) -> int | None:
        """When the earliest timer comes due that may fire."""
        if paused:
            return min((t.due for t in self._heap if t.id.startswith(URGENT) and not t.cancelled()), default=None)
        heap = self._heap
        while heap and heap[0].cancelled():
            heappop(heap)
        return heap[0].due if heap else None

    def take_due(self, now_us: int, paused: bool = False) -> list[TimerHandle]:
        """Timers due by now that may fire, earliest first; each is handed out once."""
        out: list[TimerHandle] = []
        if paused:
            out = sorted(t for t in self._heap if t.due <= now_us and t.id.startswith(URGENT) and not t.cancelled())
            self._heap = [t for t in self._heap if t not in out]
            heapify(self._heap)
            return out
        while (due := self.next_due()) is not None and due <= now_us:
            timer = heappop(self._heap)
            if self._set.get(timer.id) is timer:
                out.append(timer)
        return out

    def put_back(self, timer: TimerHandle) -> None:
        """A timer that was handed out does not fire after all; it is due again."""
        if self._set.get(timer.id) is timer:
            heappush(self._heap, timer)

    def drop(self, prefix: str) -> None:
        """Cancel the timers whose ids begin like this."""
        for timer in [t for id, t in self._set.items() if id.startswith(prefix)]:
            timer.cancel()

    def outstanding(self) -> list[str]:
        """Ids of the author's timers that have not fired."""
        return [id for id in self._set if not id.startswith(INTERNAL)]

    def clear(self) -> None:
        """Forget all."""
        self._set.clear()
        self._heap.clear()


NO_TIMERS = Timers()
"""Of runs that have set none yet; never added to."""
