"""A model of a store that workers on several hosts share, with what sets such a database apart from one file: leases by
the database's clock, no lock that dies with its owner, keys drawn by clients, and ids that become visible out of order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

from aob.clock import Clock
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.rows import Append, Appended, Lease, Message, RunRow, WorkerRow

T = TypeVar("T")

_TAGS = 1 << 10


class FleetState(MemoryState):
    """What the database holds.

    Args:
        draw: gives each process its number.
    """

    def __init__(self, partitions: int, draw: Random) -> None:
        super().__init__(partitions)
        self.draw = draw
        self.returned: dict[int, tuple[int, set[int]]] = {}


class FleetStore(MemoryStore):
    """See `aob.stores.protocol.Store`.

    Args:
        database: the clock that leases are measured by.
        host: this process's.
        pause: awaited between the moment when a transaction takes its ids and its commit.
    """

    def __init__(self, state: FleetState, database: Clock, host: Clock, pause: Callable[[], Awaitable[None]]) -> None:
        super().__init__(database, state, "fleet://")
        self._fleet = state
        self._database = database
        self._host = host
        self._pause = pause
        self._taken: list[int] = []
        self._tag = state.draw.randrange(_TAGS)
        self._last = 0
        self._skew_us = 0
        self.skew_us: Callable[[], int] | None = lambda: self._skew_us
        self._measure()

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        self._measure()
        lease = await super().acquire(partition, owner, ttl)
        if lease is not None:
            self.state.partitions[partition].locked = False
        return lease

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""
        self._measure()
        await super().renew(leases, ttl)
        for lease in leases:
            self.state.partitions[lease.partition].locked = False

    async def announce(self, owner: str, ttl: float, build: str = "") -> list[WorkerRow]:
        """See `Store.announce`."""
        self._measure()
        workers = await super().announce(owner, ttl, build)
        self._announced.clear()  # a worker that is gone without a word is counted until its time is up
        return workers

    def _measure(self) -> None:
        self._skew_us = self._database.now_us() - self._host.now_us()

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        return await self._later(len(batch.sends), lambda: super(FleetStore, self).append(batch))

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        return await self._later(len(sends), lambda: super(FleetStore, self).send_many(sends))

    async def _later(self, messages: int, commit: Callable[[], Awaitable[T]]) -> T:
        """A transaction: ids first, then, when others may have committed meanwhile, all the rest at once."""
        taken = [super(FleetStore, self)._new_message() for _ in range(messages)]
        await self._pause()
        self._taken = taken
        return await commit()

    def _new_message(self) -> int:
        return self._taken.pop(0)

    def _new_key(self) -> int:
        moment = self._host.now_us() + self._skew_us
        while True:
            self._last = moment = max(moment, self._last + 1)
            key = moment * _TAGS + self._tag
            if key not in self.state.runs:
                return key

    def _unread_in(self, partition: int, epoch: int, takes: list[int]) -> list[Message]:
        before, returned = self._fleet.returned.get(partition, (0, set[int]()))
        if before != epoch:
            returned = set[int]()
        self._fleet.returned[partition] = (epoch, returned)
        waiting = sorted(self.state.inbox.items())
        fresh = [m for id, m in waiting if m.partition == partition and id not in returned and id not in takes]
        returned.update(m.id for m in fresh)
        return [self._copied(m) for m in fresh]

    def _copied(self, message: Message) -> Message:
        return Message(
            id=message.id, partition=message.partition, tenant=message.tenant, run_id=message.run_id,
            kind=message.kind, body=message.body, reply=message.reply, expires=message.expires,
        )  # fmt: skip
