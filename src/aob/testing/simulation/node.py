"""A node: a process that is started again whenever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aob.client.client import Client
from aob.errors import AobError
from aob.stores.protocol import Store
from aob.testing.seeded import SeededProcess
from aob.testing.simulation.clocks import SimClock
from aob.testing.simulation.ledger import Ledger, LedgerExecutor
from aob.testing.simulation.loop import LIFE, Life
from aob.testing.simulation.stores import SimStore

if TYPE_CHECKING:
    from aob.testing.simulation.world import World

T = TypeVar("T")


class Down(Exception):
    """The process is not there, or died before it answered: nobody knows what it has done."""


class Node:
    """One process after the other.

    Args:
        serves: it is a worker; else it only calls.
    """

    def __init__(self, world: World, name: str, number: int, clock: SimClock, serves: bool) -> None:
        self.name = name
        self.clock = clock
        self.client: Client | None = None
        self.life: Life | None = None
        self._world = world
        self._number = number
        self._serves = serves
        self._lives = 0
        self._store: SimStore | None = None
        self._stop: asyncio.Event
        self._calls: dict[asyncio.Future[Any], None] = {}

    @property
    def ledger(self) -> Ledger:
        """The world's."""
        return self._world.ledger

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self.client is not None and self.life is not None and not self.life.stopped

    def boot(self) -> None:
        """Start a process, unless there is one."""
        if self.life is not None:
            return
        world = self._world
        self._lives += 1
        life = self.life = Life(f"{self.name}.{self._lives}", self)
        world.loop.born(life)
        world.witness.note("boot", life.name)
        context = copy_context()
        context.run(LIFE.set, life)
        self._stop = asyncio.Event()
        task = world.loop.create_task(self._live(life), context=context)
        task.add_done_callback(lambda task: self._ended(life, task), context=world.context)

    def kill(self) -> None:
        """SIGKILL."""
        life = self.life
        if life is None:
            return
        self._world.witness.note("kill", life.name)
        self._world.loop.kill(life)
        if self._store is not None:
            self._store.abandon()
        self._gone()

    def stop(self) -> None:
        """SIGTERM: it stops gracefully."""
        if self.life is not None:
            self._stop.set()

    async def call(self, fn: Callable[[Client], Awaitable[T]]) -> T:
        """Have this process do something.

        Raises:
            Down: it is not there, or did not live to answer.
        """
        client, life = self.client, self.life
        if client is None or life is None:
            raise Down(self.name)
        context = copy_context()
        context.run(LIFE.set, life)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls[answer] = None

        async def call() -> T:
            return await fn(client)

        task = self._world.loop.create_task(call(), context=context)
        task.add_done_callback(lambda task: _relay(task, answer), context=self._world.context)
        try:
            return await answer
        finally:
            self._calls.pop(answer, None)

    async def _live(self, life: Life) -> None:
        world = self._world
        settings, process = world.settings, SeededProcess(world.plan.seed * 100 + self._number, self._lives)
        async with AsyncExitStack() as stack:
            inner = await world.backend.open(self.clock, process, settings)
            store = self._store = world.wrapped(inner, life)
            stack.push_async_callback(store.close)
            client = Client(
                "sqlite://", settings=settings, clock=self.clock, process=process, store=cast("Store", store)
            )
            await stack.enter_async_context(client)
            ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stop.wait())]
            if self._serves:
                worker = client.serve(
                    *world.cast.workflows, activities=world.cast.activities, exporters=world.exporters(life)
                )
                worker.make_executor = partial(LedgerExecutor, self.ledger)
                await stack.enter_async_context(worker)
                ends.append(asyncio.ensure_future(worker.ended()))
            self.client = client
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self.client = None
            for end in ends:
                if end.done():
                    end.result()
                end.cancel()

    def _ended(self, life: Life, task: asyncio.Task[None]) -> None:
        if life.dead:
            return
        error = None if task.cancelled() else task.exception()
        self._world.witness.note("end", life.name, type(error).__name__)
        if error is not None:
            self._world.witness.seen[f"exit: {type(error).__name__}"] += 1
            if not isinstance(error, AobError):
                self._world.witness.wrong.append(f"{life.name} ended with {type(error).__name__}: {error}")
        self._world.loop.kill(life)
        if self._store is not None:
            self._store.abandon()
        self._gone()

    def _gone(self) -> None:
        self.client = self.life = self._store = None
        calls, self._calls = self._calls, {}
        for answer in calls:
            if not answer.done():
                answer.set_exception(Down(self.name))
                answer.exception()
        self._world.revive(self)


def _relay(task: asyncio.Task[T], answer: asyncio.Future[T]) -> None:
    if answer.done():
        return
    if task.cancelled():
        answer.set_exception(Down("cancelled"))
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
