"""The one seam to time and sleep. Nothing else in aob reads a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOOK_AGAIN = 5.0


class Handle(Protocol):
    """A call that was asked for, and may be cancelled."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for leases and time-outs of this process."""

    def now_us(self) -> int:
        """Wall-clock time, microseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; the same for all processes of one host since its boot; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks of the process go on."""
        ...

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Handle:
        """Call `fn()` in the running event loop after `seconds`."""
        ...

    def call_at(self, at_us: int, fn: Callable[[], object]) -> Handle:
        """Call `fn()` in the running event loop when `now_us` reaches `at_us`, or earlier: `fn` looks, and asks
        again."""
        ...


class SystemClock:
    """The host's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Handle:
        return asyncio.get_running_loop().call_later(seconds, fn)

    def call_at(self, at_us: int, fn: Callable[[], object]) -> Handle:
        # the wall clock may be set forward or back while we sleep: look again soon
        return self.call_later(min(max((at_us - self.now_us()) / 1e6, 0), _LOOK_AGAIN), fn)


class SkewedClock:
    """Another machine's wall clock, as far as its distance from this host's is known.

    Args:
        skew_us: what must be added to this host's time, in microseconds.
    """

    def __init__(self, clock: Clock, skew_us: Callable[[], int]) -> None:
        self._clock = clock
        self._skew_us = skew_us
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.call_later = clock.call_later

    def now_us(self) -> int:
        return self._clock.now_us() + self._skew_us()

    def call_at(self, at_us: int, fn: Callable[[], object]) -> Handle:
        return self._clock.call_at(at_us - self._skew_us(), fn)


def to_datetime(us: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime (exact: no floating point)."""
    return _EPOCH + timedelta(microseconds=us)


def from_datetime(at: datetime) -> int:
    """An aware datetime as microseconds since 1970 UTC.

    Raises:
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("a time zone is missing: use datetime(..., tzinfo=UTC)")
    return (at - _EPOCH) // timedelta(microseconds=1)
