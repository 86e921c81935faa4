"""What attempts emit while they run: ephemeral, tied to the attempt, for whoever looks just now."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

import msgspec

from aob.client.views import Event
from aob.clock import Clock, to_datetime
from aob.worker.executor import LiveAttempt, LocalExecutor

_KEPT = 10_000


class LiveStream:
    """A viewer's buffer; a viewer that does not read loses the oldest items."""

    def __init__(self, clock: Clock, tenant: str, run_id: str, executors: list[LocalExecutor]) -> None:
        self._clock = clock
        self._run = (tenant, run_id)
        self._executors = executors
        self._items: deque[Event] = deque(maxlen=_KEPT)
        self._waiter: asyncio.Future[None] | None = None
        self.on = bool(executors)

    def __enter__(self) -> LiveStream:
        for executor in self._executors:
            executor.listeners.append(self._heard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for executor in self._executors:
            executor.listeners.remove(self._heard)

    def _heard(self, attempt: LiveAttempt, name: str, body: bytes) -> None:
        if (attempt.run.tenant, attempt.run.run_id) != self._run:
            return
        data: dict[str, Any] = {"name": name, "data": msgspec.json.decode(body), "attempt": attempt.number}
        self._items.append(Event(None, to_datetime(self._clock.now_us()), "stream", attempt.step.id, data))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self) -> list[Event]:
        """What has come since the last call."""
        items = list(self._items)
        self._items.clear()
        return items

    def next(self) -> asyncio.Future[None]:
        """A future that is done when something has come."""
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        if self._items and not self._waiter.done():
            self._waiter.set_result(None)
        return self._waiter
