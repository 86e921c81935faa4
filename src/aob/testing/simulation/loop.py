"""One seeded event loop for a simulated world: time jumps, processes can be killed or stopped where they stand."""

# asyncio has no public way to make a loop without a selector
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextlib
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heappop
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_RESOLUTION = 4e-7
_KEPT = 64
_TOO_MANY_ROUNDS = 20_000
_TOO_MANY_STEPS = 4_000_000


class _Handle(Protocol):
    _cancelled: bool
    _when: float
    _scheduled: bool
    _context: Context

    def _run(self) -> None: ...


def _next(timers: list[Any]) -> Any:
    return heappop(timers)


class Deadlock(Exception):
    """Something is waited for, but nothing is left that could happen; or what happens never ends."""


class Life:
    """A process from its start to its death. What runs in it carries it in a context variable.

    Args:
        name: for traces.
        node: the node that lives it.
    """

    def __init__(self, name: str, node: Any) -> None:
        self.name = name
        self.node = node
        self.dead = False
        self.stopped = False
        self.tasks: list[SimTask] = []
        self.held: deque[_Handle] = deque()

    def keep(self, task: SimTask) -> None:
        """Hold a task, so that a dead process's coroutines are not closed: no cleanup code runs in a kill."""
        self.tasks.append(task)
        if len(self.tasks) > _KEPT and len(self.tasks) > 2 * self.alive:
            self.tasks = [t for t in self.tasks if not t.done()]
            self.alive = max(len(self.tasks), _KEPT)

    alive = _KEPT


LIFE: ContextVar[Life | None] = ContextVar("aob_simulated_life", default=None)
"""The process that runs; None: the world itself."""


class SimFuture(asyncio.Future[Any]):
    """A future whose hash is its number, so that sets of them have an order."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of them have an order."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """An event loop that waits for nothing: when nothing is ready, its clock jumps to the next timer.

    `steps` counts the callbacks that ran, `errors` what nobody caught.
    """

    def __init__(self) -> None:
        super().__init__()
        inner: Any = self
        self._handles: deque[_Handle] = inner._ready
        self._timers: list[_Handle] = inner._scheduled
        self._clock_resolution = _RESOLUTION
        self._now = 0.0
        self._created = 0
        self._rounds, self._round_at = 0, -1.0
        self.steps = 0
        self.errors: list[str] = []
        self._world: list[SimTask] = []
        self._lives: list[Life] = []
        self.set_exception_handler(self._uncaught)

    # --- time -----------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        ready, timers = self._handles, self._timers
        if not ready:
            while timers and timers[0]._cancelled:
                _next(timers)._scheduled = False
            if not timers:
                raise Deadlock("nothing is left that could happen")
            self._now = max(self._now, timers[0]._when)
        due = self._now + _RESOLUTION
        while timers and timers[0]._when <= due:
            timer = _next(timers)
            timer._scheduled = False
            ready.append(timer)
        self._rounds = self._rounds + 1 if self._now == self._round_at else 0
        self._round_at = self._now
        if self._rounds > _TOO_MANY_ROUNDS or self.steps > _TOO_MANY_STEPS:
            raise Deadlock("something goes round and round")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(LIFE)
            if life is not None and (life.dead or life.stopped):
                if not life.dead:
                    life.held.append(handle)
                continue
            self.steps += 1
            handle._run()

    # --- lives ----------------------------------------------------------------------------------------------------

    def born(self, life: Life) -> None:
        """A process begins."""
        self._lives.append(life)

    def kill(self, life: Life) -> None:
        """Nothing of this process runs any more, no cleanup code either."""
        life.dead = True
        life.held.clear()

    def stop_life(self, life: Life) -> None:
        """Nothing of this process runs until `go_on`."""
        life.stopped = True

    def go_on(self, life: Life) -> None:
        """A stopped process goes on where it was."""
        life.stopped = False
        held, life.held = life.held, deque()
        self._handles.extend(held)

    # --- what asyncio calls ---------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        self._created += 1
        future = SimFuture.__new__(SimFuture)
        future.number = self._created
        future.__init__(loop=self)
        return future

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        life = LIFE.get()
        if context is not None:
            if LIFE not in context:
                context.run(LIFE.set, life)
            life = context[LIFE]
        self._created += 1
        task = SimTask.__new__(SimTask)
        task.number = self._created
        task.__init__(coro, loop=self, name=None if name is None else str(name), context=context)
        if life is not None:
            life.keep(task)
        else:
            self._world.append(task)
        return task

    def call_soon_threadsafe(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """There are no threads here: the call is made at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:
            future.set_exception(e)
        return future

    def _uncaught(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context['message']}: {type(error).__name__}: {error}")

    # --- from outside ---------------------------------------------------------------------------------------------

    def live(self, world: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, inside this turn of the caller's loop if there is one.

        Raises:
            Deadlock: it waits, but nothing is left that could happen.
        """
        outer = asyncio_events._get_running_loop()
        asyncio_events._set_running_loop(None)
        try:
            task = self.create_task(world)
            task.add_done_callback(lambda _: self.stop())
            self.run_forever()
            return task.result()
        finally:
            asyncio_events._set_running_loop(outer)

    def bury(self) -> None:
        """Close the loop, and then what the dead left; their cleanup code runs now, and changes nothing any more."""
        self.close()
        for task in [t for life in self._lives for t in life.tasks] + self._world:
            task._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue]
            coro: Any = task.get_coro()
            if not task.done() and coro is not None:
                with contextlib.suppress(BaseException):
                    coro.close()
        self._lives.clear()
        self._world.clear()
