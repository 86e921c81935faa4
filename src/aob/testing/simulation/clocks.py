"""Clocks of simulated hosts: wall clocks that are wrong, drift and are set, above the one true time of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context

from aob.clock import Handle
from aob.testing.simulation.loop import SimLoop

ORIGIN_US = 1_735_689_600_000_000
"""When simulated time begins: the first moment of 2025."""
_LOOK_AGAIN = 5.0


class SimClock:
    """A host's clock (see `aob.clock.Clock`).

    Args:
        offset: seconds that its wall clock is ahead.
        boot: its monotonic time when the world begins; hosts have nothing in common there.
        rate: its seconds in one true second.
    """

    def __init__(self, loop: SimLoop, offset: float = 0.0, boot: float = 1_000.0, rate: float = 1.0) -> None:
        self._loop = loop
        self._offset_us = round(offset * 1e6)
        self._boot = boot
        self._rate = rate
        self._watched: dict[_At, None] = {}

    def now_us(self) -> int:
        return ORIGIN_US + self._offset_us + round(self._loop.time() * self._rate * 1e6)

    def monotonic(self) -> float:
        return self._boot + self._loop.time() * self._rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Handle:
        return self._loop.call_later(seconds / self._rate, fn)

    def call_at(self, at_us: int, fn: Callable[[], object]) -> Handle:
        at = _At(self._watched, at_us, fn)
        at.arm(self._loop, max(at_us - self.now_us(), 0) / 1e6 / self._rate)
        return at

    def set_to(self, ahead: float) -> None:
        """Somebody sets the wall clock to `ahead` seconds before the true time; who waits for a moment of it looks
        again soon, as with the host's own."""
        self._offset_us = round(ahead * 1e6)
        for at in list(self._watched):
            at.arm(self._loop, min(max(at.at_us - self.now_us(), 0) / 1e6, _LOOK_AGAIN) / self._rate)


class _At:
    """A call at a moment of a wall clock."""

    def __init__(self, watched: dict[_At, None], at_us: int, fn: Callable[[], object]) -> None:
        self._watched = watched
        self.at_us = at_us
        self._fn = fn
        self._context: Context = copy_context()
        self._handle: asyncio.TimerHandle | None = None
        watched[self] = None

    def arm(self, loop: SimLoop, seconds: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = loop.call_later(seconds, self._fire, context=self._context)

    def cancel(self) -> None:
        self._watched.pop(self, None)
        if self._handle is not None:
            self._handle.cancel()

    def _fire(self) -> None:
        self._watched.pop(self, None)
        self._fn()
