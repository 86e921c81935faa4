"""Virtual time: an event loop whose clock stands still while anything runs, and jumps to the next timer otherwise.

The loop's own clock is turned, not only aob's, so that `asyncio.sleep`, `asyncio.timeout` and `wait_for` in activities
and tests pass at once too. Nothing is patched but the one loop, and it is given back as it was.
"""

# asyncio has no public way to turn a loop's clock
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, Self, cast

from aob.clock import Handle, SystemClock, from_datetime
from aob.errors import NotSupported

_BEGIN = 1_000.0
_FOR_EVER = 1e9
_PATIENCE = 1.0
_A_MOMENT = 0.05
_RESOLUTION = 4e-7
"""Less than half a microsecond, and more than floating point loses in decades: what is due then is due now."""
_Ready = list[tuple[selectors.SelectorKey, int]]


class _Loop(Protocol):
    """The parts of asyncio's event loop that are turned."""

    time: Callable[[], float]
    run_in_executor: Callable[..., asyncio.Future[Any]]
    _selector: selectors.BaseSelector
    _scheduled: list[_Timer]
    _clock_resolution: float


class _Timer(Protocol):
    _when: float


class VirtualTime:
    """A clock (see `aob.clock.Clock`), and the time of the event loops it is installed on, one after the other.

    Time stands still while tasks run. When all of them wait, it jumps to the next timer; while a thread works or,
    during an attempt, a connection is open, it goes on at the pace of the host instead.

    Args:
        at: the first moment, aware.
        attempts: whether any attempt is in flight.
        stuck: called when nothing is left that could happen; True when it made something happen.
    """

    def __init__(
        self, at: datetime, attempts: Callable[[], bool] = lambda: False, stuck: Callable[[], bool] = lambda: False
    ) -> None:
        self._began_us = from_datetime(at)
        self._seconds = _BEGIN
        self._host = SystemClock()
        self._attempts = attempts
        self._stuck = stuck
        self._threads = 0
        self._known = 0
        self._settling: list[asyncio.Future[None]] = []
        self._loop: _Loop
        self._selector: selectors.BaseSelector

    # --- Clock --------------------------------------------------------------------------------------------------------

    def now_us(self) -> int:
        return self._began_us + round((self._seconds - _BEGIN) * 1e6)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        if seconds > _FOR_EVER:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Handle:
        return asyncio.get_running_loop().call_later(seconds, fn)

    def call_at(self, at_us: int, fn: Callable[[], object]) -> Handle:
        return asyncio.get_running_loop().call_at(_BEGIN + (at_us - self._began_us) / 1e6, fn)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Turn this loop's clock from now on.

        Raises:
            NotSupported: it is not asyncio's own loop.
        """
        if not isinstance(loop, asyncio.SelectorEventLoop):
            raise NotSupported(
                f"virtual time needs asyncio's own event loop, but this is a {type(loop).__name__}: "
                "run the test without uvloop"
            )
        self._loop = turned = cast("_Loop", loop)
        self._threads, self._settling = 0, []
        self._shift(self._seconds - loop.time())
        self._selector = turned._selector
        self._known = len(self._selector.get_map())
        self._run_in_executor = loop.run_in_executor
        turned._selector = _Jumping(self._selector, self._select)
        turned.time = self.monotonic
        self._resolution, turned._clock_resolution = turned._clock_resolution, _RESOLUTION
        turned.run_in_executor = self._counted

    def remove(self) -> None:
        """Give the loop back as it was; what it has scheduled keeps its distance from now."""
        turned = self._loop
        turned._selector, turned._clock_resolution = self._selector, self._resolution
        del turned.time, turned.run_in_executor
        self._shift(turned.time() - self._seconds)

    async def settle(self) -> None:
        """Wait until nothing more can happen unless time passes."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.append(waiting)
        await waiting

    def _shift(self, by: float) -> None:
        for timer in self._loop._scheduled:
            timer._when += by

    def _counted(self, *args: Any) -> asyncio.Future[Any]:
        future = self._run_in_executor(*args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self._threads -= 1

    # --- when nothing runs --------------------------------------------------------------------------------------------

    def _select(self, timeout: float | None) -> _Ready:
        ready = self._selector.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        connected = len(self._selector.get_map()) > self._known
        if self._threads or (connected and self._attempts()):
            return self._wait(timeout)
        if connected and (ready := self._selector.select(_A_MOMENT)):
            return ready
        if self._settling:
            waiting, self._settling = self._settling, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)
        elif self._loop._scheduled:
            self._seconds = max(self._seconds, self._loop._scheduled[0]._when)
        elif not self._stuck():
            return self._selector.select(_PATIENCE)
        return []

    def _wait(self, timeout: float | None) -> _Ready:
        """Something outside is under way: if it takes but a moment, no time passes."""
        began = self._host.monotonic()
        ready = self._selector.select(_PATIENCE if timeout is None else max(min(timeout, _PATIENCE), _A_MOMENT))
        if not ready:
            now = self._seconds + self._host.monotonic() - began
            self._seconds = min(now, self._loop._scheduled[0]._when) if self._loop._scheduled else now
        return ready


class _Jumping(selectors.BaseSelector):
    """A selector that asks somebody else how to wait."""

    def __init__(self, selector: selectors.BaseSelector, select: Callable[[float | None], _Ready]) -> None:
        self._selector = selector
        self._select = select

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> _Ready:
        return self._select(timeout)

    def close(self) -> None:
        self._selector.close()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()

    def __enter__(self) -> Self:
        return self
