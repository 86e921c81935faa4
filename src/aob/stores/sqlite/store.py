"""A store in one SQLite file: everything of an owner's commit in one transaction, synced before it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from aob.clock import Clock
from aob.process import Process
from aob.settings import Settings
from aob.stores.facts import StoreFacts
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
from aob.stores.sqlite.builds import builds_of, retired_builds
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.facts import facts_of
from aob.stores.sqlite.leases import Leases
from aob.stores.sqlite.opening import open_connections, path_of
from aob.stores.sqlite.options import SqliteOptions
from aob.stores.sqlite.reads import Reads
from aob.stores.sqlite.removal import Removal
from aob.stores.sqlite.trimming import Trimming
from aob.stores.sqlite.verify import problems
from aob.stores.sqlite.watch import Watch
from aob.stores.sqlite.writer import Writer


class SqliteStore:
    """See `aob.stores.protocol.Store`. Made by `open_store`; used from one event loop."""

    partitions: int = 1
    lanes: Mapping[str, Sequence[int]] = {}
    skew_us: Callable[[], int] | None = None

    def __init__(self, url: str, clock: Clock, process: Process, options: SqliteOptions) -> None:
        self.url = url
        self.path = path_of(url)
        writing, reading = open_connections(self.path, options)
        self._clock = clock
        self._writer = Writer(writing, self.path, clock, process, options)
        self._reads = Reads(reading, self.path, options.busy_timeout)
        self._commits = Commits(self._writer)
        self._leases = Leases(self._writer, self._commits, clock)
        self._removal = Removal(self._writer, self._commits, clock)
        self._trimming = Trimming(self._writer, self._commits)
        self._watch = Watch(self.path, self._reads, options.poll)
        self._closed = False

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        self._reads.close()
        await self._writer.close()
        self._leases.close()

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        return await self._leases.acquire(partition, owner, ttl)

    async def acquire_some(self, owner: str, ttl: float, most: int, build: str | None = None) -> list[Lease]:
        """See `Store.acquire_some`."""
        lease = await self.acquire(0, owner, ttl) if most > 0 and build is None else None
        return [] if lease is None else [lease]

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""
        await self._leases.renew(leases, ttl)

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""
        await self._leases.release(leases, clean)
        self._watch.ring()

    async def announce(self, owner: str, ttl: float, build: str = "") -> list[WorkerRow]:
        """See `Store.announce`: there is one partition, and whoever has it does all the work."""
        self._leases.builds[owner] = build
        return [WorkerRow(name=owner, build=build)]

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""

    async def builds(self) -> list[BuildRow]:
        """See `Store.builds`: of those that are served, that of the owner is known."""
        return builds_of(self._reads, facts_of(self._reads, self.path, self._clock).owner_lives)

    async def retired(self) -> set[str]:
        """See `Store.retired`."""
        return retired_builds(self._reads)

    async def retire(self, build: str) -> None:
        """See `Store.retire`."""
        await self._leases.retire(build)

    async def drain(self, build: str, on: bool) -> None:
        """See `Store.drain`: whoever has the one partition does all the work."""

    async def make_lanes(self, build: str, count: int) -> None:
        """See `Store.make_lanes`: there is one partition."""

    async def move(self, moves: Sequence[Move], build: str) -> None:
        """See `Store.move`: there are no lanes."""

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        appended = await self._commits.append(batch)
        if appended.committed:
            self._watch.ring()
        return appended

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """See `Store.send`."""
        conflicts = await self.send_many([(message, start)])
        return conflicts[0][1] if conflicts else None

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        conflicts = await self._commits.send(sends)
        if not conflicts:
            self._watch.ring()
            self._watch.notify()
        return conflicts

    async def waiting(self, partition: int | None = None) -> list[Message]:
        """See `Store.waiting`."""
        return self._reads.waiting(partition)

    async def take_reply(self, reply: str) -> bytes | None:
        """See `Store.take_reply`."""
        return await self._commits.take_reply(reply) if self._reads.has_reply(reply) else None

    async def wait_changed(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        await self._watch.wait(timeout)

    async def wait_messages(self, timeout: float) -> None:
        """See `Store.wait_messages`: one process alone commits here, so what others do are messages."""
        await self._watch.wait(timeout)

    async def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        return self._reads.run(tenant, run_id)

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        return self._reads.runs(where)

    async def run_by_key(self, key: int) -> RunRow | None:
        """See `Store.run_by_key`."""
        return self._reads.run_by_key(key)

    async def open_runs(self, partitions: Sequence[int], after: int, limit: int) -> list[RunRow]:
        """See `Store.open_runs`."""
        return self._reads.open_runs(partitions, after, limit)

    async def dues(self, partitions: Sequence[int], after: int, limit: int) -> list[tuple[int, int | None]]:
        """See `Store.dues`."""
        return self._reads.dues(partitions, after, limit)

    async def events(self, run: int, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        """See `Store.events`."""
        return self._reads.events(run, after, limit, until)

    async def last_event(self, run: int) -> EventRow | None:
        """See `Store.last_event`."""
        return self._reads.last_event(run)

    async def log(self, after: Mapping[int, int], limit: int) -> list[LogRow]:
        """See `Store.log`."""
        return [row for partition, position in after.items() for row in self._reads.log(partition, position, limit)]

    async def cursors(self, exporter: str | None = None) -> list[CursorRow]:
        """See `Store.cursors`."""
        return self._reads.cursors(exporter)

    async def drop_exporter(self, exporter: str) -> int:
        """See `Store.drop_exporter`."""
        return await self._removal.drop_exporter(exporter)

    async def seen(self, run: int) -> set[str]:
        """See `Store.seen`."""
        return self._reads.seen(run)

    async def blob(self, digest: str) -> bytes | None:
        """See `Store.blob`."""
        return self._reads.blob(digest)

    async def tickets(self, tenant: str | None, status: str | None, run_id: str | None, limit: int) -> list[TicketRow]:
        """See `Store.tickets`."""
        return self._reads.tickets(tenant, status, run_id, limit)

    async def get_ticket(self, tenant: str, ticket: str) -> TicketRow | None:
        """See `Store.get_ticket`."""
        return self._reads.ticket(tenant, ticket)

    async def facts(self) -> StoreFacts:
        """See `aob.stores.facts.Inspectable`."""
        return facts_of(self._reads, self.path, self._clock)

    async def check(self, at_most: int = 100) -> list[str]:
        """Read everything, histories and payloads too; what is wrong, a line each. Other work goes on meanwhile."""
        found: list[str] = []
        for problem in problems(self._reads):
            if problem is None:
                await asyncio.sleep(0)
            elif len(found) < at_most:
                found.append(problem)
        return found

    async def sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int] = (0, 0), keep: Collection[int] = ()
    ) -> Swept:
        """See `Store.sweep`."""
        return await self._removal.sweep(lease, ended_before, limit, after, keep)

    async def checkpoints(self, partition: int, after: int, limit: int) -> list[EventRow]:
        """See `Store.checkpoints`."""
        return self._reads.checkpoints(partition, after, limit)

    async def trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        """See `Store.trim`."""
        return await self._trimming.trim(lease, cuts, limit)

    async def delete_run(
        self, lease: Lease, key: int, takes: Sequence[int] = (), replies: Sequence[ReplyRow] = ()
    ) -> None:
        """See `Store.delete_run`."""
        await self._removal.delete(lease, key, takes, replies)
        if replies:
            self._watch.ring()


async def open_store(
    url: str,
    *,
    clock: Clock,
    process: Process,
    settings: Settings | None = None,
    options: SqliteOptions | None = None,
) -> SqliteStore:
    """Open the file that a `sqlite:///` URL names; it is made, or brought to the newest schema, where needed.

    Args:
        options: instead of those that the settings ask for.

    Raises:
        BadUrl: the URL names no file.
        StoreTooNew: a newer aob wrote the file.
        StoreCorrupt: it is damaged.
        StoreUnavailable, StoreLocked: it cannot be used now; why, and what to do.
    """
    return SqliteStore(url, clock, process, options or SqliteOptions.of(settings or Settings()))
