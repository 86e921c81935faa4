"""Who may append to a partition, by the database's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from aob.clock import Clock
from aob.errors import LeaseLost
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.holdings import Holdings, lost
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import Lease, WorkerRow

_MICROSECONDS = 1_000_000
_AT_PARTING = 3.0
_AT_LEAST = 1.0
_lanes = msgspec.json.Decoder(dict[str, list[int]]).decode


class Leases:
    """Leases of this process, and the list of workers.

    Args:
        news: what is told to those who wait for a partition that becomes free.
    """

    def __init__(self, connections: Connections, holdings: Holdings, clock: Clock, news: str) -> None:
        self._connections = connections
        self._holdings = holdings
        self._clock = clock
        self._news = news
        self._turn = asyncio.Lock()
        self._skew_us: int | None = None
        schema = connections.options.schema
        self._acquire = in_schema("select *, aob.now_us() from aob.acquire_1($1, $2, $3, $4, $5, $6)", schema)
        self._lost = in_schema("select aob.lost_1($1, $2, $3)", schema)
        self._renew = in_schema("select aob.renew_1($1, $2, $3, $4)", schema)
        # the fence first: a commit that was given up may arrive later, and whoever takes a free partition raises none
        self._release = in_schema(
            "select aob.fence_1(w.id), aob.release_1(w.id, $2, $3, $4, $5, $6) from aob.worker w where w.name = $1",
            schema,
        )
        self._announce = in_schema("select * from aob.announce_1($1, $2, $3)", schema)
        self._leave = in_schema("select aob.leave_1($1, $2, $3)", schema)
        self._now = in_schema("select aob.now_us(), aob.lanes_of_builds_1()", schema)

    def skew_us(self) -> int:
        """The database's clock minus this host's."""
        return self._skew_us or 0

    async def acquire(
        self, owner: str, ttl: float, most: int, only: list[int] | None = None, build: str | None = None
    ) -> list[Lease]:
        """See `Store.acquire_some`."""
        async with self._turn:
            before, sent = self._clock.monotonic(), self._clock.now_us()
            held = self._holdings.all_of(owner)
            rows = await self._connections.rows(
                self._acquire, owner, round(ttl * _MICROSECONDS), held, only, most, build
            )
            if rows and held:
                await self._see_the_others(owner, {row[2] for row in rows})
            leases: list[Lease] = []
            for worker, fence, partition, epoch, clean, last, now in rows:
                lease = Lease(partition=partition, owner=owner, epoch=epoch, clean=clean)
                self._holdings.took(lease, worker, fence, last, before + ttl)
                self._measured(sent, now)
                leases.append(lease)
            return sorted(leases, key=lambda lease: lease.partition)

    async def _see_the_others(self, owner: str, taken: set[int]) -> None:
        """The fence that comes with new leases is good for all that is held, so nothing of that may be gone.

        Raises:
            LeaseLost: somebody took some of it.
        """
        holder = self._holdings.holders[owner]
        others = {p: epoch for p, epoch in self._holdings.epochs_of(holder).items() if p not in taken}
        rows = await self._connections.rows(self._lost, holder.id, list(others), list(others.values()))
        if rows[0][0]:
            self._holdings.dropped(others)
            raise lost(*next(iter(others.items())))

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""
        if not leases:
            return
        holder = self._holdings.holder_of({lease.partition: lease.epoch for lease in leases})
        before, sent = self._clock.monotonic(), self._clock.now_us()
        epochs = [lease.partition for lease in leases], [lease.epoch for lease in leases]
        try:
            async with asyncio.timeout(max(holder.until - before, _AT_LEAST)):
                now = await self._connections.trying(
                    lambda _: self._connections.once(self._renew, holder.id, *epochs, round(ttl * _MICROSECONDS)),
                    leased_until=lambda: holder.until,
                )
        except TimeoutError:
            raise LeaseLost(f"{self._connections.name} did not answer until the lease was over") from None
        if now[0][0] is None:
            self._holdings.dropped(lease.partition for lease in leases)
            raise lost(leases[0].partition, leases[0].epoch)
        holder.until = before + ttl
        self._measured(sent, now[0][0])

    async def release(self, leases: Sequence[Lease], clean: bool) -> None:
        """See `Store.release`."""
        if not leases:
            return
        self._holdings.dropped(
            lease.partition
            for lease in leases
            if (held := self._holdings.held.get(lease.partition)) is not None and held.epoch == lease.epoch
        )
        await self._at_parting(
            self._release, leases[0].owner, [lease.partition for lease in leases], [lease.epoch for lease in leases],
            clean, self._connections.address.channel, self._news,
        )  # fmt: skip

    async def announce(self, owner: str, ttl: float, build: str) -> tuple[list[WorkerRow], int, dict[str, list[int]]]:
        """See `Store.announce`; and how many partitions there are by now, and which lanes."""
        sent = self._clock.now_us()
        rows = await self._connections.rows(self._announce, owner, build, round(ttl * _MICROSECONDS))
        _, _, _, _, _, now, partitions, lanes = rows[0]
        self._measured(sent, now)
        workers = [
            WorkerRow(name=name, build=build, draining=draining, partitions=held, lanes=in_lanes)
            for name, build, draining, held, in_lanes, *_ in rows
        ]
        return workers, partitions, _lanes(lanes) if lanes else {}

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""
        await self._at_parting(self._leave, owner, self._connections.address.channel, self._news)

    async def _at_parting(self, sql: str, *values: Any) -> None:
        """Whoever stops does not wait for long: what is not handed over expires by itself."""
        await self._connections.trying(lambda _: self._connections.once(sql, *values), patience=_AT_PARTING)

    async def measure(self) -> dict[str, list[int]]:
        """Compare the clocks; which lanes there are."""
        sent = self._clock.now_us()
        ((now, lanes),) = await self._connections.rows(self._now)
        self._measured(sent, now)
        return _lanes(lanes) if lanes else {}

    def _measured(self, sent: int, database: int) -> None:
        # The database read its clock between the question and the answer. What is known already stays while that can
        # be: a clock that is set anew for the noise of each measurement would jump about.
        least, most = database - self._clock.now_us(), database - sent
        if self._skew_us is None:
            self._skew_us = (least + most) // 2
        else:
            self._skew_us = min(max(self._skew_us, least), most)
