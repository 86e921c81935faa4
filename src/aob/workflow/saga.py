"""Sagas: steps that undo other steps, run in reverse when a block fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from aob.kernel.compensations import Undo, undo_all
from aob.kernel.machine import Evicted, Restart
from aob.workflow.context import current_machine, machine_or_refuse

_saga: ContextVar[list[Undo] | None] = ContextVar("aob_saga", default=None)


def compensate(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Register `fn(*args, **kwargs)` to be run if the enclosing `saga()` fails; outside one, if the whole run fails.

    Args:
        fn: an activity, or an async or plain function of the workflow.
    """
    undo = _saga.get()
    if undo is None:
        undo = machine_or_refuse("compensate").undo_list()
    undo.append(lambda: fn(*args, **kwargs))


@asynccontextmanager
async def saga() -> AsyncGenerator[None]:
    """When the block raises (or is cancelled), run what `compensate` registered in it, latest first, then raise on.

    A compensation that fails raises its own error, with the block's as its context; the ones before it still run.
    """
    undo: list[Undo] = []
    token = _saga.set(undo)
    machine = current_machine()
    if machine is not None:
        machine.saga_depth += 1
    try:
        yield
    except BaseException as e:
        if machine is not None and (machine.closing or isinstance(e, Restart | Evicted)):
            raise
        if undo and machine is not None:
            machine.compensated = True
        await undo_all(undo)
        raise
    finally:
        _saga.reset(token)
        if machine is not None:
            machine.saga_depth -= 1
