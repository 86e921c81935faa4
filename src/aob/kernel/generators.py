"""Async generators that workflow code leaves in the middle are closed by a task of their own run.

Python hands a generator that nobody holds any more to a hook of its thread, which is that of the event loop around us:
its clean-up would run there, as no part of the run. Ours gives it back to the run's loop, at once, as asyncio does. One
that only the garbage collector finds is dropped without its clean-up: when that happens is not the run's to know.
"""

from __future__ import annotations

import gc
import sys
from asyncio import events as asyncio_events
from collections.abc import AsyncGenerator, Callable
from typing import Any
from weakref import ref

from aob.kernel.loop import WorkflowLoop

_get_running_loop = asyncio_events._get_running_loop  # pyright: ignore
Generator = AsyncGenerator[Any, Any]
Hook = Callable[[Generator], object]
Mine = tuple[ref[Any], ref[WorkflowLoop]]
_begun: dict[int, Mine] = {}
_dying: dict[int, Mine] = {}
_collecting: list[bool] = []


class Hooks:
    """The hooks of a thread: ours for generators of runs, else those that were there."""

    def __init__(self, first: Hook | None, last: Hook | None) -> None:
        self._first = first
        self._last = last

    def first(self, generator: Generator) -> None:
        """A generator begins."""
        loop = _get_running_loop()
        if isinstance(loop, WorkflowLoop):
            key = id(generator)
            _begun[key] = ref(generator, lambda _: _died(key)), ref(loop)
        elif self._first is not None:
            self._first(generator)

    def last(self, generator: Generator) -> None:
        """A generator that has begun and not ended is about to go."""
        mine = _dying.pop(id(generator), None)
        if mine is not None:
            loop = mine[1]()
            if loop is not None and not _collecting and not getattr(loop.owner, "closing", True):
                loop.new_task(generator.aclose(), None, None)
        elif self._last is not None:
            self._last(generator)


def _died(key: int) -> None:
    if not _collecting:
        _dying.clear()
    _dying[key] = _begun.pop(key)


def _collector(phase: str, _: dict[str, int]) -> None:
    if phase == "start":
        _collecting.append(True)
    else:
        _collecting.clear()
        _dying.clear()


def keep_generators() -> None:
    """Have this thread's generators go through our hooks; called before a run begins."""
    first, last = sys.get_asyncgen_hooks()
    if type(getattr(first, "__self__", None)) is not Hooks:
        hooks = Hooks(first, last)
        sys.set_asyncgen_hooks(hooks.first, hooks.last)
        if _collector not in gc.callbacks:
            gc.callbacks.append(_collector)
