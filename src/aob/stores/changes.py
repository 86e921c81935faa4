"""Waiting for changes: each task that waits hears of every one, however many wait."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary


class Changes:
    """Counts changes, and remembers which each task has heard of.

    A task that comes for the first time has heard of those that some task heard of before.
    """

    def __init__(self) -> None:
        self._count = 0
        self._last = 0
        self._heard: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._waiting = asyncio.Event()

    def add(self) -> None:
        """Something changed: wake all."""
        self._count += 1
        self._waiting.set()
        self._waiting = asyncio.Event()

    def news(self) -> bool:
        """Whether there is a change that this task has not heard of."""
        task = asyncio.current_task()
        return self._count != (self._last if task is None else self._heard.setdefault(task, self._last))

    def heard(self) -> None:
        """This task has heard of all."""
        self._last = self._count
        task = asyncio.current_task()
        if task is not None:
            self._heard[task] = self._count

    async def next(self, timeout: float) -> None:
        """Wait for the next change, or the end of `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._waiting.wait()
        except TimeoutError:
            return
