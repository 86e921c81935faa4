"""Calls that workflow and activity code makes."""

from __future__ import annotations

import asyncio
import random as random_module
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Protocol, TypeVar, cast, overload

import msgspec

from aob.errors import NotInWorkflow
from aob.kernel.codec import codec_for
from aob.kernel.loop import due_after, running_workflow_loop
from aob.kernel.machine import Machine
from aob.kernel.steps import StepCall
from aob.kernel.texts import check_text
from aob.workflow.attempt import Info, current_attempt

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Plain(Protocol):
    """Time and randomness for workflow functions that are called as plain functions, outside an engine."""

    def now(self) -> datetime: ...

    def random(self) -> random_module.Random: ...


_plain: list[Plain] = []


def use_plain(plain: Plain) -> None:
    """Set where `now` and `random` come from outside a workflow; the package does this once when it is imported."""
    _plain[:] = [plain]


def current_machine() -> Machine | None:
    """The run whose workflow code is the caller."""
    loop = running_workflow_loop()
    return None if loop is None else cast(Machine, loop.owner)


def machine_or_refuse(what: str) -> Machine:
    """The run whose workflow code is the caller.

    Raises:
        NotInWorkflow: the caller is not workflow code that an engine runs.
    """
    machine = current_machine()
    if machine is None:
        raise NotInWorkflow(
            f"aob.{what} only works in a workflow that an engine runs: start it with client.start(…); "
            'aob.connect("sqlite://") is an engine in memory'
        )
    return machine


# --- time and randomness -------------------------------------------------------------------------


def now() -> datetime:
    """The time of the event being applied, UTC; in a run it never goes back. Outside a workflow, the present."""
    machine = current_machine()
    if machine is None:
        return _plain[0].now()
    return _EPOCH + timedelta(microseconds=machine.loop.now_us)


def random() -> random_module.Random:
    """The run's seeded random stream: the same numbers on every replay."""
    machine = current_machine()
    return _plain[0].random() if machine is None else machine.random()


def uuid4() -> uuid.UUID:
    """A version 4 UUID drawn from the run's random stream."""
    return uuid.UUID(int=random().getrandbits(128), version=4)


async def sleep(delay: float | timedelta) -> None:
    """A durable timer, in seconds or a timedelta: a month is fine, and it survives restarts."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    machine = current_machine()
    if machine is None or seconds <= 0:
        await asyncio.sleep(max(seconds, 0))
        return
    future = machine.loop.create_future()
    timer = machine.start_timer(due_after(machine.loop.now_us, seconds), _wake, (future,), None, "sleep")
    try:
        await future
    finally:
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# --- steps ---------------------------------------------------------------------------------------


def side_effect(fn: Callable[[], T]) -> Awaitable[T]:
    """Record the value of a tiny non-deterministic call: made once, the recorded value is returned on every replay.

    Args:
        fn: a plain function without arguments; its value must be plain JSON.
    """
    machine = current_machine()
    if machine is None:
        return _immediate(fn)
    call = StepCall(machine, "side_effect", "side_effect", b"null", fn, codec_for(Any, "aob.side_effect").decode)
    return cast("Awaitable[T]", call)


async def _immediate(fn: Callable[[], T]) -> T:
    return fn()


def signal_run(run_id: str, name: str, payload: object = None) -> Awaitable[None]:
    """Signal another run of the same tenant, as a step: once, whatever crashes.

    Raises (when awaited):
        RunNotFound: there is no such run.
        RunFinished: it has ended.
    """
    machine = machine_or_refuse("signal_run")
    check_text("signal_run", run_id, name)
    body = codec_for(Any, f"signal {name}").encode_checked(payload)[0]
    input = msgspec.json.encode([run_id, name, msgspec.Raw(body)])
    call = StepCall(machine, "signal_run", "signal_run", input, None, _none)
    return cast("Awaitable[None]", call)


def _none(_: object) -> None:
    return None


# --- signals and conditions ----------------------------------------------------------------------


@overload
async def wait_signal(name: str, type: type[T], timeout: float | timedelta | None = None) -> T: ...
@overload
async def wait_signal(name: str, type: Any = Any, timeout: float | timedelta | None = None) -> Any: ...
async def wait_signal(name: str, type: Any = Any, timeout: float | timedelta | None = None) -> Any:
    """The next signal of this name; one that came earlier waits in the mailbox.

    Args:
        type: what the payload is decoded as.
        timeout: seconds or a timedelta.

    Raises:
        BadPayload: the payload does not fit `type`; the signal is consumed.
        TimeoutError: none came in time.
    """
    machine = machine_or_refuse("wait_signal")
    raw = await _within(machine.mailbox.next(name), timeout)
    return codec_for(type, f"signal {name}").decode(raw)


async def signals(name: str, type: Any = Any) -> AsyncIterator[Any]:
    """An endless async iterator of the signals of this name, decoded as `type`."""
    while True:
        yield await wait_signal(name, type)


async def wait_until(predicate: Callable[[], bool], timeout: float | timedelta | None = None) -> None:
    """Wait until the run's own state makes `predicate()` true, and go on while it is; it must not await and have no
    effects. Of several that wait, one goes on at a time, and only then is the next predicate asked.

    Raises:
        TimeoutError: it stayed false for `timeout` seconds.
    """
    machine = machine_or_refuse("wait_until")
    await _within(machine.wait_until(predicate), timeout)


async def _within(future: asyncio.Future[Any], timeout: float | timedelta | None) -> Any:
    if timeout is None or future.done():
        return await future
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    async with asyncio.timeout(seconds):
        return await future


# --- state, versions, events ---------------------------------------------------------------------


def checkpoint(state: object) -> NoReturn:
    """End this pass: the workflow function starts again with that state, now and after any crash.

    Raises:
        CheckpointBusy: steps, timers or children are outstanding, compensations of the run are registered, or it was
            called from another task or in a saga.
    """
    machine = machine_or_refuse("checkpoint")
    machine.checkpoint(codec_for(type(state) if state is not None else Any, "aob.checkpoint").encode_checked(state)[0])


@overload
def checkpoint_state(type: type[T]) -> T | None: ...
@overload
def checkpoint_state(type: Any = Any) -> Any: ...
def checkpoint_state(type: Any = Any) -> Any:
    """The state that the last `checkpoint` was given, decoded as `type`; None on the first pass."""
    machine = current_machine()
    if machine is None or machine.state is None:
        return None
    return codec_for(type, "aob.checkpoint_state").decode(machine.state)


def changed(change_id: str) -> bool:
    """Guard a change of code: True for runs that first reach it live, False where history was written by older code."""
    check_text("changed", change_id)
    machine = current_machine()
    return True if machine is None else machine.changed(change_id)


def emit(name: str, data: object = None) -> None:
    """An event for watchers: durable in a workflow, live progress of this attempt in an activity."""
    check_text("emit", name)
    machine = current_machine()
    if machine is not None:
        machine.emit(name, codec_for(Any, f"emit {name}").encode_checked(data)[0])
        return
    attempt = current_attempt.get()
    if attempt is not None:
        attempt.emit(name, data)


def heartbeat(details: object = None) -> None:
    """In an activity: I am alive. The next attempt finds `details` in `aob.info().heartbeat`."""
    attempt = current_attempt.get()
    if attempt is not None:
        attempt.heartbeat(details)


def info() -> Info:
    """Where this code runs: the run, the step and the attempt.

    Raises:
        NotInWorkflow: the caller is neither activity nor workflow code.
    """
    machine = current_machine()
    if machine is not None:
        started = machine.started
        return Info(run_id=started.run_id, tenant=started.tenant, workflow=started.workflow)
    attempt = current_attempt.get()
    if attempt is None:
        raise NotInWorkflow("aob.info() only works in an activity or a workflow that an engine runs")
    return attempt.info()
