"""How a run ends: the event that its function's outcome becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from aob.errors import BudgetExhausted
from aob.kernel import events as ev
from aob.kernel.failures import capture

if TYPE_CHECKING:
    from aob.kernel.machine import Machine

End = ev.RunCompleted | ev.RunFailed | ev.RunCancelled | ev.RunTimedOut
_LOOKED_AT_MOST = 100


def outcome(machine: Machine, task: asyncio.Task[Any], error: BaseException | None) -> End:
    """The end that a finished function means. A limit that was exceeded counts before all, then a cancel it obeyed."""
    if machine.spending.exhausted is not None:
        return exhausted(machine)
    if machine.cancelled is not None and (task.cancelled() or (error is None and task.cancelling() > 0)):
        return stopped(machine, machine.cancelled)
    if task.cancelled():
        error = asyncio.CancelledError("the workflow raised CancelledError though nobody had cancelled it")
    if error is None:
        try:
            result, _ = machine.program.codec.result.encode_checked(task.result())
            return ev.RunCompleted(0, Raw(result), unread(machine))
        except Exception as e:
            error = e
    blamed = blamed_step(machine.step_errors or (), error)
    return ev.RunFailed(0, capture(error), blamed, machine.compensated, unread(machine))


def exhausted(machine: Machine) -> End:
    """A limit is used up."""
    limit = machine.spending.exhausted or ""
    error = BudgetExhausted(f"the run used up its limit of {limit}", limit=limit)
    return ev.RunFailed(0, capture(error), None, machine.compensated, unread(machine))


def stopped(machine: Machine, request: ev.CancelRequested) -> End:
    """It was cancelled, or passed its time limit."""
    if request.timed_out is not None:
        return ev.RunTimedOut(0, request.timed_out, machine.compensated, unread(machine))
    return ev.RunCancelled(0, request.reason, machine.compensated, unread(machine))


def unread(machine: Machine) -> dict[str, int]:
    """How many signals of each name nobody has read."""
    return {name: len(items) for name, items in machine.mailbox.unread().items()}


def blamed_step(known: Iterable[tuple[BaseException, str]], error: BaseException) -> str | None:
    """The step whose failure led to this error: itself, a cause, a context, or a member of a group."""
    steps = {id(e): step for e, step in known}
    todo, looked = [error], 0
    while todo and looked < _LOOKED_AT_MOST:
        e = todo.pop(0)
        looked += 1
        if id(e) in steps:
            return steps[id(e)]
        todo += [x for x in (e.__cause__, e.__context__) if x is not None]
        if isinstance(e, BaseExceptionGroup):
            todo += e.exceptions  # pyright: ignore[reportUnknownMemberType]
    return None
