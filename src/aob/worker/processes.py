"""Several worker processes under one that does no work itself: each that ends is started again, later and later while
it does not last, and all are stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from aob.clock import Clock
from aob.process import ChildProcess

MISUSED = 2
_CHUNK = 64 * 1024
_LINE = 1024 * 1024
_LAST_WORDS = 1.0


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    """How a process that ended is started again.

    Args:
        first, most: seconds to wait before the first time, doubled each time up to this.
        healthy: one that lasted so many seconds begins anew with counting.
        tries: that often one may end early, one time after the other, before all is given up.
    """

    first: float = 0.5
    most: float = 15.0
    healthy: float = 60.0
    tries: int = 8


class Watcher(Protocol):
    """Who is told what the processes do, by their numbers, which begin at 1."""

    def started(self, number: int, pid: int) -> None:
        """A process runs."""
        ...

    def said(self, number: int, line: str, error: bool) -> None:
        """It wrote a line, to stderr if `error`."""
        ...

    def ended(self, number: int, code: int, again_in: float | None) -> None:
        """It ended, and is started again after so many seconds; None: it was stopped, or may not be."""
        ...

    def gave_up(self, number: int, code: int, tries: int) -> None:
        """It ended early again and again, and so all are stopped."""
        ...


class Processes:
    """Keeps `count` processes alive until it is stopped.

    Args:
        start: starts one.
    """

    def __init__(
        self, start: Callable[[], Awaitable[ChildProcess]], count: int, clock: Clock, watcher: Watcher,
        restarts: Restarts | None = None,
    ) -> None:  # fmt: skip
        self._start = start
        self._count = count
        self._clock = clock
        self._watcher = watcher
        self._restarts = restarts or Restarts()
        self._living: dict[int, ChildProcess] = {}
        self._stopping = asyncio.Event()
        self._killed = False
        self._code = 0

    async def run(self) -> int:
        """Until all have ended after `stop`; 0 when all ended well. 1 when one could not be kept alive, 2 when one said
        that it was called in a wrong way: then the others were stopped."""
        await asyncio.gather(*(self._keep(number) for number in range(1, self._count + 1)))
        return self._code

    def stop(self) -> None:
        """Stop all in good order (SIGTERM), and start none again."""
        self._stopping.set()
        for process in self._living.values():
            with suppress(ProcessLookupError):
                process.terminate()

    def kill(self) -> None:
        """Stop all at once (SIGKILL)."""
        self._killed = True
        self._stopping.set()
        for process in self._living.values():
            with suppress(ProcessLookupError):
                process.kill()

    async def _keep(self, number: int) -> None:
        early, wait = 0, self._restarts
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            code = await self._one(number)
            if self._stopping.is_set():
                self._code = self._code or (1 if code else 0)
                self._watcher.ended(number, code, None)
                return
            early = early + 1 if self._clock.monotonic() - began < wait.healthy else 1
            if code == MISUSED or early >= wait.tries:
                self._give_up(number, code, early)
                return
            pause = min(wait.first * 2 ** (early - 1), wait.most)
            self._watcher.ended(number, code, pause)
            await self._pause(pause)

    async def _one(self, number: int) -> int:
        process = await self._start()
        self._living[number] = process
        self._watcher.started(number, process.pid)
        if self._stopping.is_set():
            (self.kill if self._killed else self.stop)()
        assert process.stdout is not None and process.stderr is not None
        loop = asyncio.get_running_loop()
        pumps = [loop.create_task(self._pump(number, process.stdout, False))]
        pumps.append(loop.create_task(self._pump(number, process.stderr, True)))
        code = await process.wait()
        del self._living[number]
        await asyncio.wait(pumps, timeout=_LAST_WORDS)  # a process that it started may hold its pipes open
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        if process.stdin is not None:
            process.stdin.close()
        return code

    async def _pump(self, number: int, stream: asyncio.StreamReader, error: bool) -> None:
        rest = b""
        while data := await stream.read(_CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._watcher.said(number, line.decode(errors="replace"), error)
        if rest:
            self._watcher.said(number, rest.decode(errors="replace"), error)

    def _give_up(self, number: int, code: int, tries: int) -> None:
        self._code = MISUSED if code == MISUSED else 1
        self._watcher.gave_up(number, code, tries)
        self.stop()

    async def _pause(self, seconds: float) -> None:
        stopped = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([stopped], timeout=seconds)
        stopped.cancel()
