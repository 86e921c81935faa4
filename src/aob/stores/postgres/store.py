"""A store in a Postgres database, which many workers share: each owns partitions of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from aob.clock import Clock
from aob.process import Process
from aob.stores.facts import Spread, StoreFacts
from aob.stores.postgres.builds import Builds
from aob.stores.postgres.commits import Commits
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.facts import facts_of
from aob.stores.postgres.holdings import Holdings, Keys
from aob.stores.postgres.leases import Leases
from aob.stores.postgres.partitions import Partitions
from aob.stores.postgres.reads import Reads
from aob.stores.postgres.removal import Removal
from aob.stores.postgres.sending import Sending
from aob.stores.postgres.trimming import Trimming
from aob.stores.postgres.verify import problems
from aob.stores.postgres.watch import Watch
from aob.stores.rows import (
    Append,
    Appended,
    BuildRow,
    CursorRow,
    Cut,
    EventRow,
    Lease,
    LogRow,
    Message,
    Move,
    ReplyRow,
    RunFilter,
    RunRow,
    Swept,
    TicketRow,
    WorkerRow,
)


class PostgresStore:
    """See `aob.stores.protocol.Store`. Made by `aob.stores.postgres.open_store`; used from one event loop."""

    skew_us: Callable[[], int] | None

    def __init__(self, connections: Connections, clock: Clock, process: Process) -> None:
        self.url = connections.name
        self._connections = connections
        self._holdings = Holdings()
        tag = process.new_id(8)
        self._watch = Watch(connections, tag, self._holdings.held)
        self._leases = Leases(connections, self._holdings, clock, self._watch.news("f"))
        self.skew_us = self._leases.skew_us
        keys = Keys(clock, self.skew_us, process.seed())
        self._partitions = Partitions(connections, clock)
        self._commits = Commits(connections, self._holdings, keys, process, self._partitions)
        self._commits.on_sent = self._watch.sent
        self._sending = Sending(connections, keys, process, self._partitions, self._watch.news("m"))
        self._reads = Reads(connections)
        self._removal = Removal(connections, self._holdings, self._commits)
        self._trimming = Trimming(self._reads, self._removal)
        self._builds = Builds(connections, self._removal)
        self.lanes: dict[str, list[int]] = {}

    async def start(self) -> None:
        """Learn the database's time, and which partitions there are."""
        self.lanes = await self._leases.measure()
        await self._partitions.look()

    @property
    def partitions(self) -> int:
        """See `Store.partitions`."""
        return self._partitions.count

    async def close(self) -> None:
        """See `Store.close`."""
        if not self._connections.closed:
            await self._connections.close()
            await self._watch.close()

    async def announce(self, owner: str, ttl: float, build: str = "") -> list[WorkerRow]:
        """See `Store.announce`."""
        workers, partitions, self.lanes = await self._leases.announce(owner, ttl, build)
        self._partitions.learned(partitions)
        return workers

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""
        await self._leases.leave(owner)

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        leases = await self._leases.acquire(owner, ttl, 1, [partition])
        return leases[0] if leases else None

    async def acquire_some(self, owner: str, ttl: float, most: int, build: str | None = None) -> list[Lease]:
        """See `Store.acquire_some`."""
        return await self._leases.acquire(owner, ttl, most, build=build)

    async def builds(self) -> list[BuildRow]:
        """See `Store.builds`."""
        return await self._builds.all()

    async def retired(self) -> set[str]:
        """See `Store.retired`."""
        return await self._builds.retired()

    async def retire(self, build: str) -> None:
        """See `Store.retire`."""
        await self._builds.retire(build)

    async def drain(self, build: str, on: bool) -> None:
        """See `Store.drain`."""
        await self._builds.drain(build, on)

    async def make_lanes(self, build: str, count: int) -> None:
        """See `Store.make_lanes`."""
        await self._builds.make_lanes(build, count)
        self.lanes = await self._leases.measure()

    async def move(self, moves: Sequence[Move], build: str) -> None:
        """See `Store.move`."""
        await self._builds.move(moves, build)
        self._watch.sent({lane for _, _, lane in moves})

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""
        await self._leases.renew(leases, ttl)

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""
        await self._leases.release(leases, clean)

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        appended = await self._commits.append(batch)
        if appended.committed and (batch.events or batch.summaries or batch.starts or batch.tickets or batch.replies):
            self._watch.committed()
        return appended

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """See `Store.send`."""
        conflicts = await self.send_many([(message, start)])
        return conflicts[0][1] if conflicts else None

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        conflicts = await self._sending.send(sends)
        if not conflicts:
            self._watch.sent()
        return conflicts

    async def waiting(self, partition: int | None = None) -> list[Message]:
        """See `Store.waiting`."""
        return await self._reads.waiting(partition)

    async def take_reply(self, reply: str) -> bytes | None:
        """See `Store.take_reply`."""
        return await self._reads.take_reply(reply)

    async def wait_changed(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        await self._watch.wait(timeout)

    async def wait_messages(self, timeout: float) -> None:
        """See `Store.wait_messages`."""
        await self._watch.wait(timeout, commits=False)

    async def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        return await self._reads.run(tenant, run_id)

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        return await self._reads.runs(where)

    async def run_by_key(self, key: int) -> RunRow | None:
        """See `Store.run_by_key`."""
        return await self._reads.run_by_key(key)

    async def open_runs(self, partitions: Sequence[int], after: int, limit: int) -> list[RunRow]:
        """See `Store.open_runs`."""
        return await self._reads.open_runs(partitions, after, limit)

    async def dues(self, partitions: Sequence[int], after: int, limit: int) -> list[tuple[int, int | None]]:
        """See `Store.dues`."""
        return await self._reads.dues(partitions, after, limit)

    async def events(self, run: int, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        """See `Store.events`."""
        return await self._reads.events(run, after, limit, until)

    async def last_event(self, run: int) -> EventRow | None:
        """See `Store.last_event`."""
        return await self._reads.last_event(run)

    async def log(self, after: Mapping[int, int], limit: int) -> list[LogRow]:
        """See `Store.log`."""
        return await self._reads.log(after, limit)

    async def cursors(self, exporter: str | None = None) -> list[CursorRow]:
        """See `Store.cursors`."""
        return await self._reads.cursors(exporter)

    async def drop_exporter(self, exporter: str) -> int:
        """See `Store.drop_exporter`."""
        return await self._removal.drop_exporter(exporter)

    async def seen(self, run: int) -> set[str]:
        """See `Store.seen`."""
        return await self._reads.seen(run)

    async def blob(self, digest: str) -> bytes | None:
        """See `Store.blob`."""
        return await self._reads.blob(digest)

    async def tickets(self, tenant: str | None, status: str | None, run_id: str | None, limit: int) -> list[TicketRow]:
        """See `Store.tickets`."""
        return await self._reads.tickets(tenant, status, run_id, limit)

    async def get_ticket(self, tenant: str, ticket: str) -> TicketRow | None:
        """See `Store.get_ticket`."""
        return await self._reads.ticket(tenant, ticket)

    async def sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int] = (0, 0), keep: Collection[int] = ()
    ) -> Swept:
        """See `Store.sweep`."""
        return await self._removal.sweep(lease, ended_before, limit, after, keep)

    async def checkpoints(self, partition: int, after: int, limit: int) -> list[EventRow]:
        """See `Store.checkpoints`."""
        return await self._reads.checkpoints(partition, after, limit)

    async def trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        """See `Store.trim`."""
        return await self._trimming.trim(lease, cuts, limit)

    async def delete_run(
        self, lease: Lease, key: int, takes: Sequence[int] = (), replies: Sequence[ReplyRow] = ()
    ) -> None:
        """See `Store.delete_run`."""
        await self._removal.delete(lease, key, takes, replies)
        if replies:
            self._watch.committed()

    async def spread(self) -> Spread:
        """See `aob.stores.facts.Divided`."""
        return await self._partitions.spread()

    async def raise_partitions(self, count: int) -> int:
        """See `aob.stores.facts.Divided`."""
        return await self._partitions.raise_to(count)

    async def facts(self) -> StoreFacts:
        """See `aob.stores.facts.Inspectable`."""
        return await facts_of(self._connections)

    async def check(self, at_most: int = 100) -> list[str]:
        """See `aob.stores.facts.Inspectable`."""
        found: list[str] = []
        async for problem in problems(self._connections, self._reads):
            if len(found) < at_most:
                found.append(problem)
        return found
