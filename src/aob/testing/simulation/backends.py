"""The real stores, opened so that every call ends in one turn of the simulated loop."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from aob.clock import Clock
from aob.process import Process
from aob.settings import Settings
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.stores.sqlite.options import SqliteOptions
from aob.stores.sqlite.store import open_store
from aob.testing.simulation.clocks import SimClock
from aob.testing.simulation.fleet import FleetState, FleetStore
from aob.testing.simulation.loop import SimLoop
from aob.testing.simulation.plan import Plan

_IN_MEMORY = Path("/dev/shm")


class Backend(Protocol):
    """What several processes share.

    `one_host`: all processes are on one host, with its clock. `slow`: each call goes over a network. `certain`: a store
    finds out what became of a call whose connection was lost.
    """

    one_host: bool
    slow: bool
    certain: bool

    async def open(self, clock: Clock, process: Process, settings: Settings) -> Store:
        """A process opens its store."""
        ...

    def close(self) -> None:
        """The world ends."""
        ...


class MemoryBackend:
    """The model in memory."""

    one_host = True
    slow = False
    certain = False

    def __init__(self, plan: Plan, loop: SimLoop) -> None:
        self._state = MemoryState()

    async def open(self, clock: Clock, process: Process, settings: Settings) -> Store:
        return MemoryStore(clock, self._state)

    def close(self) -> None:
        return


class SqliteBackend:
    """Real files, in a file system that is in memory where there is one."""

    one_host = True
    slow = False
    certain = False

    def __init__(self, plan: Plan, loop: SimLoop) -> None:
        self._directory = tempfile.mkdtemp(prefix="aob-sim-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
        self._url = f"sqlite:///{self._directory}/world.db"
        self._options = SqliteOptions(check="never", cache_kib=2_000, slow_commit=1e9)

    async def open(self, clock: Clock, process: Process, settings: Settings) -> Store:
        return await open_store(self._url, clock=clock, process=process, settings=settings, options=self._options)

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


class FleetBackend:
    """The model of a database that workers on several hosts share."""

    one_host = False
    slow = True
    certain = True

    def __init__(self, plan: Plan, loop: SimLoop) -> None:
        self._database = SimClock(loop)
        self._state = FleetState(plan.partitions, plan.stream("database"))
        self._draw = plan.stream("transactions")

    async def open(self, clock: Clock, process: Process, settings: Settings) -> Store:
        return FleetStore(self._state, self._database, clock, self._transact)

    async def _transact(self) -> None:
        await asyncio.sleep(self._draw.choice((0.0005, 0.0005, 0.02)) * self._draw.random())

    def close(self) -> None:
        return


BACKENDS: dict[str, type[MemoryBackend] | type[SqliteBackend] | type[FleetBackend]] = {
    "memory": MemoryBackend,
    "sqlite": SqliteBackend,
    "fleet": FleetBackend,
}
