"""What a run waits for that is true of its own state: `wait_until`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aob.errors import BadDefinition
from aob.kernel import flags

if TYPE_CHECKING:
    from aob.kernel.machine import Machine

Predicate = Callable[[], Any]


def holds(machine: Machine, predicate: Predicate) -> bool:
    """Evaluate a predicate, which only reads.

    Raises:
        BadDefinition: it awaits, or has effects.
    """
    machine.read_only = True
    try:
        answer = predicate()
    finally:
        machine.read_only = False
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise BadDefinition("the predicate of wait_until must not await: it looks at the run's own state")
    return bool(answer)


class Conditions:
    """Predicates and who waits for each."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[Predicate, asyncio.Future[None]]] = []

    def add(self, predicate: Predicate, future: asyncio.Future[None]) -> None:
        """`future` is done once the predicate holds, or has raised."""
        self._waiting.append((predicate, future))

    def check(self, machine: Machine) -> None:
        """Evaluate all, and let the run go on, until none of them changes anything."""
        turns = machine.flags & flags.TURNS
        again = True
        while again and self._waiting:
            again = False
            for condition in list(self._waiting):
                predicate, future = condition
                if not future.done():
                    _settle(machine, predicate, future)
                if future.done() and condition in self._waiting:
                    self._waiting.remove(condition)
                    again = True
                    if turns:
                        machine.loop.drain()
            machine.loop.drain()


def _settle(machine: Machine, predicate: Predicate, future: asyncio.Future[None]) -> None:
    try:
        if holds(machine, predicate):
            future.set_result(None)
    except Exception as e:
        future.set_exception(e)
