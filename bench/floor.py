"""The limit to measure against: the least Python that keeps the engine's promise.

A run is a coroutine in a private event loop. What it is given back is a row of JSON in SQLite before it goes on (WAL,
`synchronous=FULL`), and what all runs ask for in a turn shares one commit. There are no names, types, retries, timers,
checks or leases, and nothing of it survives a crash but the rows: every engine that has these is slower.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw

Code = Callable[..., Coroutine[Any, Any, Any]]
_SCHEMA = (
    "pragma page_size = 16384",
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "create table if not exists event (position integer primary key, run int, seq int, data text)",
    "create unique index if not exists event_run on event (run, seq)",
)


class Loop(asyncio.AbstractEventLoop):
    """Runs what is ready, and nothing else."""

    def __init__(self) -> None:
        self.ready: deque[asyncio.Handle] = deque()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise RuntimeError(context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def drain(self, outer: asyncio.AbstractEventLoop) -> None:
        events._set_running_loop(self)
        try:
            while self.ready:
                self.ready.popleft()._run()
        finally:
            events._set_running_loop(outer)


class FloorRun:
    """A run."""

    __slots__ = ("_code", "_floor", "_inbox", "durable", "ended", "key", "loop", "seq")

    def __init__(self, floor: Floor, key: int, code: Code, args: tuple[Any, ...]) -> None:
        self._floor, self.key, self.seq = floor, key, 0
        self.loop = Loop()
        self.durable: asyncio.Future[Any] = floor.loop.create_future()
        self.ended: asyncio.Future[Any] = floor.loop.create_future()
        self._inbox: asyncio.Future[Any] | None = None
        self._code = code(self, *args)

    def step(self, value: Any) -> asyncio.Future[Any]:
        """A result of an activity: the future is done when it is durable."""
        future = self.loop.create_future()
        self._floor.record(self, value, future.set_result)
        return future

    def message(self) -> asyncio.Future[Any]:
        """The next signal."""
        self._inbox = self.loop.create_future()
        return self._inbox

    def begin(self, _: Any) -> None:
        self.durable.set_result(None)
        asyncio.Task(self._code, loop=self.loop).add_done_callback(self._done)

    def deliver(self, value: Any) -> None:
        assert self._inbox is not None
        self._inbox.set_result(value)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._floor.record(self, task.result(), self.ended.set_result)


class Floor:
    """Runs, and the file with what they did. Used inside a running event loop."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.db = apsw.Connection(str(path), vfs=vfs)
        for sql in _SCHEMA:
            self.db.execute(sql)
        self._records: list[tuple[FloorRun, int, str, Any, Callable[[Any], None]]] = []
        self._keys = 0

    async def start(self, code: Code, *args: Any) -> FloorRun:
        """Start a run; durable when it returns."""
        self._keys += 1
        run = FloorRun(self, self._keys, code, args)
        self.record(run, args, run.begin)
        await run.durable
        return run

    def signal(self, run: FloorRun, value: Any) -> None:
        """Send a run what it waits for."""
        self.record(run, value, run.deliver)

    def record(self, run: FloorRun, value: Any, then: Callable[[Any], None]) -> None:
        """Call `then(value)` when the value is durable."""
        if not self._records:
            self.loop.call_soon(self._commit)
        run.seq += 1
        self._records.append((run, run.seq, json.dumps(value), value, then))

    def _commit(self) -> None:
        records, self._records = self._records, []
        self.db.execute("begin")
        rows = ((run.key, seq, data) for run, seq, data, _, _ in records)
        self.db.executemany("insert into event (run, seq, data) values (?, ?, ?)", rows)
        self.db.execute("commit")
        for run, _, _, value, then in records:
            then(value)
            if run.loop.ready:
                run.loop.drain(self.loop)

    def replay(self, key: int, code: Code, *args: Any) -> Any:
        """What a run of one step at a time returned, found by running it over its rows again."""
        run = Replayed(self, key, code, args)
        run.begin(None)
        run.loop.drain(self.loop)
        for (data,) in self.db.execute("select data from event where run = ? and seq > 1 order by seq", (key,)):
            if run.ended.done():
                break
            run.waiting.set_result(json.loads(data))
            run.loop.drain(self.loop)
        return run.ended.result()

    def close(self) -> None:
        self.db.close()


class Replayed(FloorRun):
    """A run that is given back what was recorded."""

    waiting: asyncio.Future[Any]

    def step(self, value: Any) -> asyncio.Future[Any]:
        self.waiting = self.loop.create_future()
        return self.waiting

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.ended.set_result(task.result())
