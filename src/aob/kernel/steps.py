"""A call of a step, and the step that it becomes when it is awaited.

`StepCall` is what workflow code holds: an awaitable that is nothing yet. When it is first awaited (or its task first
runs) the machine gives it an id and makes it a `Step`: the future that the run waits on, and the command that the host
carries out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Literal

from aob.kernel.failures import Failure
from aob.kernel.loop import WorkflowFuture

if TYPE_CHECKING:
    from aob.kernel.machine import Machine

StepKind = Literal["activity", "child", "side_effect", "signal_run", "ticket"]


class StepCall:
    """An awaitable call of a step.

    Args:
        machine: the run that calls.
        kind: what the host does with it.
        name: the step's name; its id will be `name#k`.
        input: its arguments, typed JSON.
        plan: what the host needs to carry it out; opaque to the kernel.
        decode: turns the recorded result into a value.
        wait_on_cancel: a cancelled await goes on waiting until the attempt has stopped.
    """

    __slots__ = (
        "__weakref__",
        "_running",
        "decode",
        "input",
        "kind",
        "machine",
        "name",
        "number",
        "plan",
        "wait_on_cancel",
    )

    def __init__(
        self,
        machine: Machine,
        kind: StepKind,
        name: str,
        input: bytes,
        plan: Any,
        decode: Callable[[Any], Any],
        wait_on_cancel: bool = False,
    ) -> None:
        self.machine = machine
        self.kind: StepKind = kind
        self.name = name
        self.input = input
        self.plan = plan
        self.decode = decode
        self.wait_on_cancel = wait_on_cancel
        self.number = machine.loop.next_number()
        self._running: Generator[Any, None, Any] | None = None

    def __hash__(self) -> int:
        return self.number

    def __await__(self) -> Generator[Any, None, Any]:
        return self.machine.schedule(self).__await__()

    # --- a coroutine, for asyncio.create_task, gather and TaskGroup -------------------------------

    def send(self, value: Any) -> Any:
        if self._running is None:
            self._running = self.machine.schedule(self).__await__()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        if self._running is None:
            raise error[1] if len(error) > 1 and error[1] is not None else error[0]  # pyright: ignore
        return self._running.throw(*error)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


Coroutine.register(StepCall)  # pyright: ignore


class Step(WorkflowFuture):
    """A step that was asked for and has no result yet.

    Args (set by the machine):
        id: `name#k`.
        check: checksum of the input.
        attempt: number of the attempt to make next, from 1.
        due: not before this time, microseconds since 1970; 0: at once.
        first_start: when the first attempt began; 0: not yet.
        failure: why the last attempt failed, as recorded.
        live: whatever the host keeps about the attempt in flight.
        stopping: nobody wants it any more, but its end is waited for.
    """

    __slots__ = (
        "attempt",
        "check",
        "decode",
        "due",
        "failure",
        "first_start",
        "heartbeat",
        "id",
        "input",
        "kind",
        "live",
        "machine",
        "plan",
        "scheduled",
        "started",
        "stopping",
        "wait_on_cancel",
    )
    id: str
    kind: StepKind
    check: int
    input: bytes
    plan: Any
    decode: Callable[[Any], Any]
    machine: Machine
    attempt: int
    due: int
    first_start: int
    failure: Failure | None
    live: Any
    heartbeat: Any
    scheduled: int
    started: bool
    stopping: bool
    wait_on_cancel: bool

    def cancel(self, msg: Any = None) -> bool:
        """The workflow no longer waits for it."""
        if self.done():
            return False
        if self.wait_on_cancel and not self.machine.closing:
            self.machine.ask_to_stop(self)
            return True
        self.machine.abandon(self)
        return super().cancel(msg)

    def stop_waiting(self) -> None:
        """The attempt has stopped: now the await raises `CancelledError`."""
        super().cancel()


class Abandon:
    """Command: stop the step's attempt; nobody waits for its result (or, with `wait`, until it has stopped)."""

    __slots__ = ("step", "wait")

    def __init__(self, step: Step, wait: bool) -> None:
        self.step = step
        self.wait = wait
