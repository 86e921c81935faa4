"""Order where asyncio and anyio have none, and where the hashes of our tasks do not give one.

`asyncio.all_tasks` makes its set from one of all the process's tasks, so that colliding hashes come in another order in
each process. anyio keeps the scopes inside a cancel scope in a set ordered by address. Both are mended for the loops of
runs alone.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events as asyncio_events, tasks as asyncio_tasks
from collections.abc import Iterator, MutableSet
from importlib import import_module
from typing import Any

from aob.kernel.loop import WorkflowLoop

_get_running_loop = asyncio_events._get_running_loop  # pyright: ignore
_ANYIO = "anyio._backends._asyncio"
_mended: set[str] = set()


class InOrder(MutableSet[Any]):
    """A set in the order of insertion."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: dict[Any, None] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)


def keep_order() -> None:
    """Mend what is loaded by now; called before a run begins."""
    if "asyncio" not in _mended:
        _mended.add("asyncio")
        _mend_all_tasks()
    if "anyio" not in _mended and "anyio" in sys.modules:
        _mended.add("anyio")
        _mend_scopes(import_module(_ANYIO))


def _mend_all_tasks() -> None:
    original = asyncio.all_tasks

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        """Return a set of all tasks for the loop."""
        here = _get_running_loop() if loop is None else loop
        return set(here.live_tasks()) if isinstance(here, WorkflowLoop) else original(loop)

    asyncio.all_tasks = asyncio_tasks.all_tasks = all_tasks


def _mend_scopes(backend: Any) -> None:
    scope = backend.CancelScope
    original = scope.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if type(_get_running_loop()) is WorkflowLoop and hasattr(self, "_child_scopes"):
            self._child_scopes = InOrder()

    scope.__init__ = init
    backend.all_tasks = asyncio.all_tasks
