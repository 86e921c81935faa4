"""A run's unread signals, in order per name, and who waits for one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec import Raw


class Mailbox:
    """Signals wait here until they are asked for; the oldest waiter gets the next one.

    Args:
        new_future: makes a future of the run's loop.
    """

    __slots__ = ("_new_future", "_unread", "_waiting")

    def __init__(self, new_future: Callable[[], asyncio.Future[Raw]]) -> None:
        self._new_future = new_future
        self._unread: dict[str, deque[Raw]] = {}
        self._waiting: dict[str, deque[asyncio.Future[Raw]]] = {}

    def deliver(self, name: str, payload: Raw) -> None:
        """Hand a signal to the oldest waiter, or keep it."""
        waiting = self._waiting.get(name)
        while waiting:
            future = waiting.popleft()
            if not future.done():
                future.set_result(payload)
                return
        self._unread.setdefault(name, deque()).append(payload)

    def next(self, name: str) -> asyncio.Future[Raw]:
        """A future of the next signal of this name."""
        future = self._new_future()
        unread = self._unread.get(name)
        if unread:
            future.set_result(unread.popleft())
            if not unread:
                del self._unread[name]
        else:
            self._waiting.setdefault(name, deque()).append(future)
        return future

    def put_back(self, name: str, payload: Raw) -> None:
        """Return a signal that was taken for a waiter that had gone; it is again the next one."""
        self._unread.setdefault(name, deque()).appendleft(payload)

    def unread(self) -> dict[str, list[Raw]]:
        """What nobody has read, by name."""
        return {name: list(items) for name, items in sorted(self._unread.items()) if items}

    def waits(self) -> list[str]:
        """Names that somebody waits for."""
        return [n for n, w in sorted(self._waiting.items()) if any(not f.done() for f in w)]

    def restore(self, unread: dict[str, list[Raw]]) -> None:
        """Take over what a checkpoint carried; nobody waits any more."""
        self._unread = {name: deque(items) for name, items in unread.items()}
        self._waiting = {}
