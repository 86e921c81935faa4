"""A worker's life in this process: an event loop of its own that can be left where it stands, as a death leaves it."""

from __future__ import annotations

import asyncio
from asyncio import events as asyncio_events
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from aob.errors import StoreFailed
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended, Lease, Message, ReplyRow, RunRow
from aob.testing.seeded import QuietStore
from aob.testing.virtual import VirtualTime

# asyncio has no public way to run a loop inside another one's turn
# pyright: reportPrivateUsage=false

T = TypeVar("T")
How = Literal["before", "after", "unknown"]
HOWS: tuple[How, ...] = ("before", "after", "unknown")
"""The worker dies before a write, after it, or the write is made but reported as failed."""


class Died(Exception):
    """The life ended in the middle."""


class MortalStore(QuietStore):
    """A store that counts its writes, and whose process dies at one of them.

    Args:
        at: number of the write, from 1; None: it lives.
    """

    def __init__(self, inner: Store, at: int | None = None, how: How = "before") -> None:
        super().__init__(inner)
        self.writes: list[str] = []
        self.dead = False
        self.failed = False
        self.after_failure: list[str] = []
        self._at = at
        self._how = how

    @property
    def over(self) -> bool:
        """Whether the process died, or may write no more."""
        return self.dead or self.failed

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        kinds = ", ".join(dict.fromkeys(kind for _, _, kind, *_ in batch.events))
        return await self._write(f"append({kinds})", lambda: self.inner.append(batch))

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """See `Store.send`."""
        return await self._write(f"send({message.kind})", lambda: super(MortalStore, self).send(message, start))

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        return await self._write("send_many", lambda: super(MortalStore, self).send_many(sends))

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        return await self._write("acquire", lambda: self.inner.acquire(partition, owner, ttl))

    async def acquire_some(self, owner: str, ttl: float, most: int, build: str | None = None) -> list[Lease]:
        """See `Store.acquire_some`."""
        return await self._write("acquire", lambda: self.inner.acquire_some(owner, ttl, most, build))

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""
        await self._write("release", lambda: super(MortalStore, self).release(leases, clean))

    async def delete_run(
        self, lease: Lease, key: int, takes: Sequence[int] = (), replies: Sequence[ReplyRow] = ()
    ) -> None:
        """See `Store.delete_run`."""
        await self._write("delete_run", lambda: self.inner.delete_run(lease, key, takes, replies))

    async def _write(self, what: str, write: Callable[[], Awaitable[T]]) -> T:
        if self.dead:
            await _for_ever()
        if self.failed:
            self.after_failure.append(what)
            raise StoreFailed("the connection was lost before")
        self.writes.append(what)
        if len(self.writes) != self._at:
            return await write()
        if self._how == "before":
            await self._die()
        await write()
        if self._how == "after":
            await self._die()
        self.failed = True
        raise StoreFailed("the connection was lost: whether this was written is unknown")

    async def _die(self) -> None:
        self.dead = True
        asyncio.get_running_loop().stop()
        await _for_ever()


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class Lives:
    """Runs one life after another in virtual time that goes on, and keeps the dead until `bury`.

    Args:
        at: when time begins, aware.
    """

    def __init__(self, at: datetime) -> None:
        self.time = VirtualTime(at, stuck=self._stop)
        self.errors: list[str] = []
        """What nobody caught, in any life."""
        self._dead: list[asyncio.Task[Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def live(self, life: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in a loop of its own, inside this turn of the caller's loop.

        Raises:
            Died: the loop was stopped before it ended; its tasks stay as they are, no cleanup code has run.
        """
        outer = asyncio_events._get_running_loop()
        asyncio_events._set_running_loop(None)
        loop = self._loop = asyncio.SelectorEventLoop()
        loop.set_exception_handler(self._uncaught)
        self.time.install(loop)
        try:
            task = loop.create_task(life)
            task.add_done_callback(lambda _: loop.stop())
            loop.run_forever()
            if not task.done():
                raise Died("nothing is left that could happen")
            return task.result()
        finally:
            self._end(loop)
            asyncio_events._set_running_loop(outer)

    def bury(self) -> None:
        """Close what the dead left; their cleanup code runs now, and changes nothing any more."""
        dead, self._dead = self._dead, []
        for task in dead:
            coro: Any = task.get_coro()
            try:
                coro.close()
            except BaseException:
                continue  # it awaits something in its cleanup; its loop is gone

    def _stop(self) -> bool:
        """Nothing is left that could happen in the life that runs."""
        if self._loop is not None:
            self._loop.stop()
        return True

    def _uncaught(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context['message']}: {type(error).__name__}: {error}")

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        left = asyncio.all_tasks(loop)
        for task in left:
            task._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue]
        self._dead += left
        self.time.remove()
        loop.close()
        self._loop = None
