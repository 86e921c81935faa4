"""Coroutines whose first step is made at once, outside a task: what they do before they first wait is done in order."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def begin(coro: Coroutine[Any, Any, Any], spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
    """Run a coroutine up to where it first waits; `spawn` gets the rest, if there is one."""
    try:
        waiting = coro.send(None)
    except StopIteration:
        return
    spawn(later(coro, waiting))


async def later(coro: Coroutine[Any, Any, T], waiting: Any) -> T:
    """What `resume` does, as a coroutine: a task takes no generator."""
    return await resume(coro, waiting)


@types.coroutine
def resume(coro: Coroutine[Any, Any, Any], waiting: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine whose first step was made outside a task."""
    while True:
        try:
            sent = yield waiting
        except BaseException as e:
            try:
                waiting = coro.throw(e)
            except StopIteration as done:
                return done.value
        else:
            try:
                waiting = coro.send(sent)
            except StopIteration as done:
                return done.value


@types.coroutine
def within(coro: Coroutine[Any, Any, T], block: Callable[[], AbstractContextManager[None]]) -> Generator[Any, Any, T]:
    """Await a coroutine, each stretch of it that does not wait inside a `block` of its own."""
    step: Callable[[], Any] = partial(coro.send, None)
    while True:
        with block():
            try:
                waiting = step()
            except StopIteration as done:
                return done.value
        try:
            step = partial(coro.send, (yield waiting))
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as e:
            step = partial(coro.throw, e)
