"""The store as one simulated process sees it: the real one, behind a way that is slow and lossy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Any, Protocol, TypeVar

import msgspec

from aob.errors import AobError, LeaseLost, StoreFailed, StoreFull, StoreLocked, StoreUnavailable
from aob.stores.changes import Changes
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended, Lease, Message, RunRow, Swept
from aob.testing.simulation.faults import Fate, Faults
from aob.testing.simulation.loop import Life, SimLoop

T = TypeVar("T")


class Witness(Protocol):
    """Sees what the store really did."""

    def called(self, life: Life, call: str, outcome: str) -> None: ...

    def acquired(self, life: Life, lease: Lease) -> None: ...

    def renewed(self, life: Life, leases: Sequence[Lease]) -> None: ...

    def released(self, life: Life, leases: Sequence[Lease]) -> None: ...

    def committed(self, life: Life, batch: Append) -> None: ...

    def sent(self, life: Life, sends: Sequence[tuple[Message, RunRow | None]]) -> None: ...

    def deleted(self, life: Life) -> None: ...


class Bells:
    """Tells each process of the others' changes and messages, late or never."""

    def __init__(self, loop: SimLoop, faults: Faults) -> None:
        self._loop = loop
        self._faults = faults
        self._stores: dict[SimStore, set[str]] = {}

    def hang(self, store: SimStore) -> None:
        self._stores[store] = set()

    def take_down(self, store: SimStore) -> None:
        self._stores.pop(store, None)

    def ring(self, by: SimStore, what: str) -> None:
        for store, on_its_way in self._stores.items():
            if store is by or what in on_its_way:
                continue
            after = self._faults.wake()
            if after is not None:
                on_its_way.add(what)
                self._loop.call_later(after, self._heard, store, what, context=store.world_context)

    def _heard(self, store: SimStore, what: str) -> None:
        if store in self._stores:
            self._stores[store].discard(what)
            store.heard(what)


class SimStore:
    """See `aob.stores.protocol.Store`.

    Args:
        inner: a store whose calls end in one turn of the loop.
        patience: how much longer than asked to wait for changes; bells are what wakes.
        certain: it finds out by itself what became of a call whose connection was lost, and goes on with it.
    """

    def __init__(
        self, inner: Store, life: Life, faults: Faults, bells: Bells, witness: Witness, context: Any, patience: float,
        certain: bool,
    ) -> None:  # fmt: skip
        self.inner = inner
        self.url = inner.url
        self.partitions = inner.partitions
        self.skew_us = inner.skew_us
        self._changed = Changes()
        self._sent = Changes()
        self.world_context = context
        self._life = life
        self._faults = faults
        self._bells = bells
        self._witness = witness
        self._patience = patience
        self._certain = certain
        self._failed: StoreFailed | None = None
        bells.hang(self)

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self.inner, name)
        if not hasattr(found, "__call__"):  # noqa: B004
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            async def asked() -> Any:
                return await found(*args, **kwargs)

            return await self._call(name, asked)

        return call

    def abandon(self) -> None:
        """The process died: the kernel closes its files and drops its locks."""
        self._bells.take_down(self)
        closing: Any = self.inner.close()
        try:
            closing.send(None)
        except StopIteration:
            return
        except AobError:
            return

    async def close(self) -> None:
        """See `Store.close`."""
        self._bells.take_down(self)
        self.heard("changed")
        self.heard("sent")
        await self.inner.close()

    def heard(self, what: str) -> None:
        """There is something new."""
        (self._changed if what == "changed" else self._sent).add()

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def wait_changed(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        await self._wait(self._changed, timeout)

    async def wait_messages(self, timeout: float) -> None:
        """See `Store.wait_messages`."""
        await self._wait(self._sent, timeout)

    async def _wait(self, changes: Changes, timeout: float) -> None:
        if not changes.news():
            await changes.next(timeout * self._patience)
        changes.heard()

    # --- writing ----------------------------------------------------------------------------------------------------

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        sent = as_sent(batch)
        for row in batch.starts:
            row.key = 0
        appended: Appended = await self._call("append", lambda: self._append(sent))
        if appended.committed:
            for row, copied in zip(batch.starts, sent.starts, strict=True):
                row.key = copied.key
        if appended.conflicts:
            asked = {id(copied): row for row, copied in zip(batch.starts, sent.starts, strict=True)}
            appended.conflicts = [(asked[id(start)], existing) for start, existing in appended.conflicts]
        return appended

    async def _append(self, batch: Append) -> Appended:
        appended = await self.inner.append(batch)
        if appended.committed:
            self._witness.committed(self._life, batch)
            self._bells.ring(self, "changed")
            if batch.sends:
                self.heard("sent")
                self._bells.ring(self, "sent")
        return appended

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """See `Store.send`."""
        conflicts = await self.send_many([(message, start)])
        return conflicts[0][1] if conflicts else None

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        return await self._call("send", lambda: self._send(sends))

    async def _send(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        conflicts = await self.inner.send_many(sends)
        if not conflicts:
            self._witness.sent(self._life, sends)
            self.heard("changed")
            self.heard("sent")
            self._bells.ring(self, "changed")
            self._bells.ring(self, "sent")
        return conflicts

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""

        async def acquire() -> Lease | None:
            lease = await self.inner.acquire(partition, owner, ttl)
            if lease is not None:
                self._witness.acquired(self._life, lease)
            return lease

        return await self._call("acquire", acquire)

    async def acquire_some(self, owner: str, ttl: float, most: int, build: str | None = None) -> list[Lease]:
        """See `Store.acquire_some`."""

        async def acquire() -> list[Lease]:
            leases = await self.inner.acquire_some(owner, ttl, most, build)
            for lease in leases:
                self._witness.acquired(self._life, lease)
            return leases

        return await self._call("acquire_some", acquire)

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""

        async def renew() -> None:
            await self.inner.renew(leases, ttl)
            self._witness.renewed(self._life, leases)

        await self._call("renew", renew)

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""

        async def release() -> None:
            await self.inner.release(leases, clean)
            self._witness.released(self._life, leases)
            self._bells.ring(self, "changed")

        await self._call("release", release)

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""

        async def leave() -> None:
            await self.inner.leave(owner)
            self._bells.ring(self, "changed")

        await self._call("leave", leave)

    async def sweep(self, lease: Lease, *args: Any, **kwargs: Any) -> Swept:
        """See `Store.sweep`."""

        async def sweep() -> Swept:
            swept = await self.inner.sweep(lease, *args, **kwargs)
            if swept.runs:
                self._witness.deleted(self._life)
            return swept

        return await self._call("sweep", sweep)

    async def _call(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        fate = self._faults.fate(name)
        writes = name in _WRITES
        if self._certain and writes and fate.how in ("unknown", "lost"):
            again = self._faults.reconnects_after()
            self._witness.called(self._life, name, fate.how)
            lost = fate.how == "lost"
            fate = Fate(fate.before + again * lost, fate.after + again * (not lost))
        if writes and self._failed is not None:
            raise self._failed
        if fate.before > 0:
            await asyncio.sleep(fate.before)
        if fate.how in _REFUSALS:
            self._witness.called(self._life, name, fate.how)
            if fate.after > 0:
                await asyncio.sleep(fate.after)
            raise self._refusal(fate.how)
        try:
            got = await call()
        except AobError as e:
            self._witness.called(self._life, name, "fenced" if isinstance(e, LeaseLost) else e.code)
            raise
        self._witness.called(self._life, name, fate.how or "ok")
        if fate.after > 0:
            await asyncio.sleep(fate.after)
        if fate.how == "unknown" and writes:
            raise self._refusal("unknown")
        return got

    def _refusal(self, how: str) -> AobError:
        if how == "locked":
            return StoreLocked("another program has held the write lock for too long (simulated)")
        if how == "full":
            return StoreFull("no space left (simulated)")
        if how == "unavailable":
            return StoreUnavailable("the store cannot be read just now (simulated)")
        self._failed = StoreFailed("whether this was written is unknown (simulated)")
        return self._failed


_REFUSALS = frozenset(("locked", "full", "lost", "unavailable"))
_WRITES = frozenset(
    (
        "append", "send", "acquire", "acquire_some", "renew", "release", "sweep", "delete_run", "take_reply",
        "announce", "leave", "make_lanes", "move", "retire", "drain",
    )
)  # fmt: skip


def as_sent(batch: Append) -> Append:
    """A batch as it is when it leaves: what the engine changes afterwards belongs to the next one."""
    starts = {id(row): copy(row) for row in batch.starts}
    rows: dict[int, Any] = {id(row): starts.get(id(row)) or copy(row) for row in batch.summaries}
    rows |= starts
    return msgspec.structs.replace(
        batch,
        starts=list(starts.values()),
        summaries=[rows[id(row)] for row in batch.summaries],
        events=[(rows.get(id(run), run), *rest) for run, *rest in batch.events],
        blobs=[(rows.get(id(run), run), *rest) for run, *rest in batch.blobs],
        seen=[(rows.get(id(run), run), id_) for run, id_ in batch.seen],
    )
