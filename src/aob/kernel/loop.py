"""The private event loop of one run: asyncio without a clock, a selector or threads.

Handles run first in, first out, until none is left; time is the time of the event being applied; timers are durable and
belong to the run. Futures and tasks hash by a number drawn from the run's seed and their order of creation: asyncio
keeps them in sets, and a set ordered by address would abort a TaskGroup in another order in every process.
"""

# asyncio duck-types loops and handles, and keeps what we must look at private
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio import events as asyncio_events, tasks as asyncio_tasks
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, NoReturn, Protocol

from aob.errors import BadDefinition, IoInWorkflow

_ANYIO_REDELIVERY = "_deliver_cancellation"
_MANY = 100
_FOR_EVER = 1e10
_HASH_MULTIPLIER = 0x9E3779B97F4A7C15
_HASH_MASK = (1 << 61) - 1


class Timers(Protocol):
    """What the loop needs from its run."""

    read_only: bool

    def start_timer(
        self, due_us: int, fn: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> TimerHandle: ...

    def loop_failed(self, error: BaseException) -> None: ...


class Handle:
    """A callback to run; what `call_soon` returns."""

    __slots__ = ("_args", "_cancelled", "_context", "_fn")

    def __init__(self, fn: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self._fn = fn
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def run(self) -> None:
        if not self._cancelled:
            self._context.run(self._fn, *self._args)


def due_after(now_us: int, seconds: float) -> int:
    """A time in microseconds; for ever ends in some hundreds of years."""
    return now_us + round(min(seconds, _FOR_EVER) * 1e6)


class TimerHandle(Handle):
    """A durable timer. `id` is its step id, `due` in microseconds since 1970; `number` tells which was set first."""

    __slots__ = ("due", "id", "number", "on_cancel")

    def __init__(
        self,
        id: str,
        due: int,
        on_cancel: Callable[[TimerHandle], None],
        fn: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        super().__init__(fn, args, context)
        self.id = id
        self.due = due
        self.number = 0
        self.on_cancel = on_cancel

    def when(self) -> float:
        return self.due / 1e6

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self.on_cancel(self)

    def __lt__(self, other: TimerHandle) -> bool:
        return self.due < other.due or (self.due == other.due and self.number < other.number)


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose hash does not depend on its address."""

    __slots__ = ("number",)
    number: int

    def __hash__(self) -> int:
        return self.number


class WorkflowTask(asyncio.Task[Any]):
    """A task whose hash does not depend on its address."""

    number: int

    def __hash__(self) -> int:
        return self.number


_deaf: list[object] = []
"""Code that catches everything and goes on. It is kept, for to drop it would be to close it once more."""


def _close_coroutine(task: WorkflowTask) -> None:
    task._log_destroy_pending = False  # pyright: ignore
    coro: Any = task.get_coro()
    with contextlib.suppress(BaseException):
        coro.close()
    if getattr(coro, "cr_frame", None) is not None:
        _deaf.append(coro)


_end = asyncio.Future[Any].cancel


def _untie(task: WorkflowTask) -> None:
    """A task, what it waits for and who waits for it hold each other: let go, so that all are freed at once."""
    future: Any = task._fut_waiter  # pyright: ignore
    if isinstance(future, asyncio.Future):
        _end(future)  # pyright: ignore[reportUnknownArgumentType]
    _end(task)


class _Nobody:
    """The owner of a loop whose run has left."""

    read_only = False

    def start_timer(self, due_us: int, *_: Any) -> TimerHandle:
        return TimerHandle("", due_us, lambda _: None, lambda: None, (), None)

    def loop_failed(self, error: BaseException) -> None:
        return


_nobody = _Nobody()
_WAIT_CODE = asyncio_tasks._wait.__code__  # pyright: ignore
_AS_COMPLETED = frozenset({"as_completed", "_AsCompletedIterator", "__init__"})


class WorkflowLoop(asyncio.AbstractEventLoop):
    """One run's event loop.

    Args:
        timers: the run, which keeps its timers.
        salt: from the run's seed; spreads the hashes of different runs.
    """

    def __init__(self, timers: Timers, salt: int) -> None:
        self.owner = timers
        self.ready: list[Handle] = []
        self.now_us = 0
        self._created = 0
        self._salt = salt
        self._ordered: dict[int, asyncio.Task[Any]] = {}
        self._tasks: list[WorkflowTask] = []
        self._prune_at = 32

    # --- what asyncio calls -----------------------------------------------------------------------

    def time(self) -> float:
        return self.now_us / 1e6

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:
        handle = Handle(callback, args, context)
        self.ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self.owner.start_timer(due_after(self.now_us, delay), callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self.owner.start_timer(due_after(0, when), callback, args, context)

    def create_future(self) -> asyncio.Future[Any]:
        frame = sys._getframe(1)
        if frame.f_code is _WAIT_CODE:
            _refuse_unordered(frame)
        future = WorkflowFuture.__new__(WorkflowFuture)
        future.number = self.next_number()
        future.__init__(loop=self)
        return future

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        if self.owner.read_only:
            raise BadDefinition("a task was made in a query, validator or predicate; these only read")
        early = self._as_completed_task(coro)
        if early is not None:
            return early
        return self.new_task(coro, None if name is None else str(name), context)

    def new_task(self, coro: Any, name: str | None, context: Context | None) -> asyncio.Task[Any]:
        number = self.next_number()
        task = WorkflowTask.__new__(WorkflowTask)
        task.number = number
        task.__init__(coro, loop=self, name=name or f"task-{self._created}", context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [t for t in self._tasks if not t.done()]
            self._prune_at = 2 * len(self._tasks) + 32
        return task

    def live_tasks(self) -> list[WorkflowTask]:
        """Tasks that have not ended, oldest first."""
        return [t for t in self._tasks if not t.done()]

    def close_tasks(self, for_good: bool = False) -> None:
        """Close the coroutines of the tasks that have not ended, newest first, and forget them.

        Their cleanup may await or raise: the run leaves memory, and its history decides.

        Args:
            for_good: nothing runs in this loop any more.
        """
        tasks, self._tasks = self.live_tasks(), []
        outer = asyncio_events._get_running_loop()
        asyncio_events._set_running_loop(self)
        try:
            for task in reversed(tasks):
                _close_coroutine(task)
                if for_good:
                    _untie(task)
        finally:
            asyncio_events._set_running_loop(outer)

    def detach(self) -> None:
        """The run has left: forget it, so that both are freed at once, without the garbage collector."""
        self.ready.clear()
        self._tasks.clear()
        self.owner = _nobody

    def next_number(self) -> int:
        """The hash of the next future or task."""
        self._created += 1
        return ((self._created + self._salt) * _HASH_MULTIPLIER) & _HASH_MASK

    def number_anew(self) -> None:
        """A pass begins: its futures and tasks hash as they will after a restart, which knows no pass before it."""
        self._created = 0

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors nobody awaited: they change nothing in the run, as in asyncio, which only logs them."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        pass

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    async def shutdown_asyncgens(self) -> None:
        pass

    # --- running ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Run handles until none is ready. The caller has made this the running loop."""
        count = quiet = 0
        parked: list[Handle] = []
        while ready := self.ready:
            self.ready = []
            for handle in ready:
                if handle._cancelled:
                    continue
                count += 1
                if count > _MANY:
                    # anyio cancels on every turn until its tasks have left; when nothing else runs, wait for an event
                    quiet = quiet + 1 if getattr(handle._fn, "__name__", "") == _ANYIO_REDELIVERY else 0
                    if quiet > _MANY:
                        parked.append(handle)
                        continue
                try:
                    handle._context.run(handle._fn, *handle._args)
                except BaseException as e:
                    self.owner.loop_failed(e)
        self.ready.extend(parked)

    # --- order where asyncio has none -------------------------------------------------------------

    def _as_completed_task(self, coro: Any) -> asyncio.Task[Any] | None:
        """`as_completed` puts its awaitables into a set. Make tasks of them in the order given, when it asks for
        the first."""
        frame = _as_completed_frame(sys._getframe(2))
        if frame is None:
            return None
        task = self._ordered.pop(id(coro), None)
        if task is not None:
            return task
        given = frame.f_locals.get("fs") or frame.f_locals.get("aws")
        if not isinstance(given, list | tuple):
            raise IoInWorkflow(
                "asyncio.as_completed over a generator of coroutines has no order that could be replayed: "
                "give it a list, or tasks made with asyncio.create_task"
            )
        for c in dict.fromkeys(given):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            if asyncio.iscoroutine(c):  # pyright: ignore[reportUnknownArgumentType]
                self._ordered[id(c)] = self.new_task(c, None, None)  # pyright: ignore[reportUnknownArgumentType]
        return self._ordered.pop(id(coro))


def _as_completed_frame(frame: FrameType | None) -> FrameType | None:
    """The frame of `as_completed` when `ensure_future` was called from it (its name and depth differ by Python
    version)."""
    if frame is None or (frame.f_code.co_name != "ensure_future" and frame.f_code.co_name != "_ensure_future"):
        return None
    for _ in range(4):
        frame = frame.f_back
        if frame is None:
            return None
        if frame.f_code.co_filename == asyncio_tasks.__file__ and (
            frame.f_code.co_name == "as_completed" or ("aws" in frame.f_locals and "timeout" in frame.f_locals)
        ):
            return frame
    return None


def _refuse_unordered(frame: FrameType) -> None:
    for future in frame.f_locals["fs"]:
        if not isinstance(future, WorkflowFuture | WorkflowTask):
            raise IoInWorkflow(
                f"asyncio.wait over a {type(future).__name__} has no order that could be replayed: "
                "wrap it in asyncio.create_task first"
            )


_LIBRARY = sys.stdlib_module_names | {"aob", "anyio"}


def caller_line(frame: FrameType | None) -> str:
    """`file:line` of the first frame outside aob, anyio and the standard library; for messages."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARY:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refused(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        where = caller_line(sys._getframe(1))
        raise IoInWorkflow(
            f"{name} was called in a workflow, at {where}: workflow code must not do I/O, start threads or processes. "
            "Make it an activity: put the call into an async def (or def) with @aob.activity and await that"
        )

    refused.__name__ = name
    return refused


for _name in (
    "run_in_executor",
    "set_default_executor",
    "call_soon_threadsafe",
    "getaddrinfo",
    "getnameinfo",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "create_datagram_endpoint",
    "connect_accepted_socket",
    "start_tls",
    "sendfile",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_shell",
    "subprocess_exec",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "add_signal_handler",
    "remove_signal_handler",
    "run_forever",
    "run_until_complete",
    "stop",
    "close",
    "shutdown_default_executor",
):
    setattr(WorkflowLoop, _name, _refuse(_name))


def running_workflow_loop() -> WorkflowLoop | None:
    """The run's loop when the caller is workflow code, else None."""
    loop = asyncio_events._get_running_loop()  # pyright: ignore
    return loop if type(loop) is WorkflowLoop else None


Coro = Coroutine[Any, Any, Any]
