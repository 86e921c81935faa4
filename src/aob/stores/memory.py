"""A store in memory: nothing survives the process. Plain dictionaries, the model that other stores are held to."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from itertools import islice
from operator import attrgetter
from typing import TypeVar

import msgspec

from aob.clock import Clock
from aob.errors import BadUrl, LeaseLost, NotFinished, NotSupported, StoreCorrupt, StoreUnavailable
from aob.process import Process
from aob.settings import Settings
from aob.stores.chain import GAP, check_chain, gap_data
from aob.stores.changes import Changes
from aob.stores.facts import Share, Spread
from aob.stores.needs import may_go_on, still_needed
from aob.stores.rows import (
    LANES,
    LAST_SEQ,
    Append,
    Appended,
    BuildRow,
    CursorRow,
    Cut,
    EventRow,
    Keyed,
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
    partition_of,
)

T = TypeVar("T", bound=msgspec.Struct)

_INBOX_PAGE = 1000


class Held(msgspec.Struct):
    """Who has a partition; `locked`: the owner holds its lock, so that a free lock means it is gone."""

    owner: str
    epoch: int
    expires: float
    locked: bool
    released: bool = False


class MemoryState:
    """What several `MemoryStore`s share, as several processes share a file."""

    def __init__(self, partitions: int = 1) -> None:
        self.count = partitions
        self.workers: dict[str, tuple[WorkerRow, float]] = {}
        self.retired: set[str] = set()
        self.draining: set[str] = set()
        self.lanes: dict[int, str] = {}
        self.runs: dict[int, RunRow] = {}
        self.ids: dict[tuple[str, str], int] = {}
        self.events: dict[int, list[EventRow]] = {}
        self.inbox: dict[int, Message] = {}
        self.replies: dict[str, tuple[bytes, int]] = {}
        self.seen: dict[int, set[str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.blob_uses: dict[int, dict[str, int]] = {}
        self.tickets: dict[tuple[str, str], TicketRow] = {}
        self.partitions: dict[int, Held] = {}
        self.locks: dict[int, object] = {}
        self.deleted: set[int] = set()
        self.logs: dict[int, list[EventRow]] = {}
        self.last_positions: dict[int, int] = {}
        self.cursors: dict[tuple[str, int], int] = {}
        self.last_key = self.last_message = 0
        self.changed: list[Changes] = []
        self.sent: list[Changes] = []

    def find(self, tenant: str, run_id: str) -> RunRow | None:
        """The run that has an id."""
        key = self.ids.get((tenant, run_id))
        return None if key is None else self.runs[key]

    def forks(self, key: int) -> Iterable[RunRow]:
        """Runs that share this one's events."""
        return (run for run in self.runs.values() if run.origin == key)

    def needs(self, run: RunRow) -> RunRow | None:
        """The run that started this one, if it may ask for its result again."""
        parent = None if run.parent is None else self.find(run.tenant, run.parent)
        if parent is None or not may_go_on(parent):
            return None
        if parent.partition != run.partition:
            return parent  # which of them was first nobody knows
        return None if self._position(parent, parent.checkpoint) > self._position(run, 1) else parent

    def passed(self, partition: int) -> int:
        """The last position that every exporter has come to."""
        return min((at for (_, p), at in self.cursors.items() if p == partition), default=LAST_SEQ)

    def exported(self, run: RunRow) -> bool:
        """Whether every exporter has come past the run's events."""
        own = self.events.get(run.key)
        return not own or own[-1].position <= self.passed(run.partition)

    def _position(self, run: RunRow, seq: int) -> int:
        return next((e.position for e in self.events.get(run.key, ()) if e.seq == seq), 0)

    def drop_unused(self, digests: Iterable[str]) -> None:
        """Forget those of these blobs that no run uses."""
        used = set[str]().union(*self.blob_uses.values())
        for digest in set(digests) - used:
            del self.blobs[digest]


class MemoryStore:
    """See `aob.stores.protocol.Store`. Stores made with one `state` see the same runs."""

    skew_us: Callable[[], int] | None = None

    def __init__(self, clock: Clock, state: MemoryState | None = None, url: str = "sqlite://") -> None:
        self.url = url
        self.state = state or MemoryState()
        self._clock = clock
        self._read_to: dict[int, tuple[int, int]] = {}
        self._locks: dict[int, int] = {}
        self._announced: set[str] = set()
        self._changed = Changes()
        self._sent = Changes()
        self._closed = False
        self.state.changed.append(self._changed)
        self.state.sent.append(self._sent)

    @property
    def partitions(self) -> int:
        """See `Store.partitions`."""
        return self.state.count

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        self.state.changed.remove(self._changed)
        self.state.sent.remove(self._sent)
        self._changed.add()
        self._sent.add()
        for partition in list(self._locks):
            self._unlock(partition)
        for name in self._announced:
            self.state.workers.pop(name, None)

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        self._refuse_closed()
        now = self._clock.monotonic()
        held = self.state.partitions.get(partition) or Held(owner, 0, now, False, released=True)
        locked = partition not in self.state.locks
        dead = locked and held.locked
        if not (held.released or dead or now >= held.expires):
            return None
        lease = Lease(partition=partition, owner=owner, epoch=held.epoch + 1, clean=held.released)
        self.state.partitions[partition] = Held(owner, lease.epoch, now + ttl, locked)
        self._unlock(partition)
        self._locks[partition] = lease.epoch
        if locked:
            self.state.locks[partition] = self
        return lease

    async def acquire_some(self, owner: str, ttl: float, most: int, build: str | None = None) -> list[Lease]:
        """See `Store.acquire_some`."""
        nobodys = {*range(self.partitions), *self.state.partitions} - self.state.lanes.keys()
        known = self.lanes.get(build, ()) if build is not None else sorted({*nobodys, *self.lanes.get("", ())})
        leases: list[Lease] = []
        for partition in known:
            if len(leases) < most and (lease := await self.acquire(partition, owner, ttl)) is not None:
                leases.append(lease)
        return leases

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""
        for held in [self._held(lease.partition, lease.epoch) for lease in leases]:
            held.expires = self._clock.monotonic() + ttl
        for lease in leases:
            self.state.partitions[lease.partition].locked = self.state.locks.setdefault(lease.partition, self) is self

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""
        self._refuse_closed()
        for lease in leases:
            held = self.state.partitions.get(lease.partition)
            if held is not None and held.epoch == lease.epoch:
                held.released, held.expires, held.epoch = clean, 0.0, held.epoch + 1
                self._ring()
            self._lost(lease.partition, lease.epoch)

    async def announce(self, owner: str, ttl: float, build: str = "") -> list[WorkerRow]:
        """See `Store.announce`."""
        self._refuse_closed()
        now = self._clock.monotonic()
        self._announced.add(owner)
        self.state.workers[owner] = (WorkerRow(name=owner, build=build), now + ttl)
        self.state.workers = {name: value for name, value in self.state.workers.items() if value[1] > now}
        held = {partition: held.owner for partition, held in self.state.partitions.items() if held.expires > now}
        lanes = Counter(owner for partition, owner in held.items() if self.state.lanes.get(partition))
        every = Counter(held.values())
        return [
            WorkerRow(
                name=name, build=row.build, draining=row.build in self.state.draining,
                partitions=every[name] - lanes[name], lanes=lanes[name],
            )
            for name, (row, _) in sorted(self.state.workers.items())
        ]  # fmt: skip

    @property
    def lanes(self) -> dict[str, list[int]]:
        """See `Store.lanes`."""
        found: dict[str, list[int]] = {}
        for lane, build in sorted(self.state.lanes.items()):
            found.setdefault(build, []).append(lane)
        return found

    async def make_lanes(self, build: str, count: int) -> None:
        """See `Store.make_lanes`."""
        self._refuse_closed()
        lanes, state = self.state.lanes, self.state
        if self.partitions == 1 or build in lanes.values() or build in state.retired:
            return
        used = {run.partition for run in state.runs.values() if run.ended is None}
        again = [lane for lane, owner in sorted(lanes.items()) if not owner and lane not in used]
        first = max(lanes, default=LANES - 1) + 1
        lanes |= dict.fromkeys([*again, *range(first, first + count)][:count], build)

    async def move(self, moves: Sequence[Move], build: str) -> None:
        """See `Store.move`."""
        for lease, _, _ in moves:
            self._held(lease.partition, lease.epoch)
        for lease, key, lane in moves:
            run = self.state.runs.get(key)
            if run is not None and run.status == "pending" and run.partition == lease.partition:
                run.partition, run.build = lane, build
                self._forward(run, lease.partition)
        self._ring()

    def _forward(self, run: RunRow, partition: int) -> None:
        inbox = self.state.inbox
        id = (partition, run.tenant, run.run_id)
        for message in [m for m in inbox.values() if (m.partition, m.tenant, m.run_id) == id]:
            del inbox[message.id]
            message.partition = run.partition
            self._send(message)

    async def spread(self) -> Spread:
        """See `aob.stores.facts.Divided`."""
        now = self._clock.monotonic()
        held = Counter((held.owner, p >= LANES) for p, held in self.state.partitions.items() if held.expires > now)
        builds = {name: row.build for name, (row, _) in self.state.workers.items()}
        shares = [
            Share(name, builds.get(name, ""), held[name, False], held[name, True])
            for name in sorted({name for name, _ in held})
        ]
        free = self.state.count - sum(share.partitions for share in shares)
        return Spread(partitions=self.state.count, free=free, lanes=len(self.state.lanes), shares=shares)

    async def raise_partitions(self, count: int) -> int:
        """See `aob.stores.facts.Divided`."""
        before = self.state.count
        if count < before:
            raise NotSupported(f"there are {before} partitions already")
        self.state.count = count
        return before

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""
        self._refuse_closed()
        self.state.workers.pop(owner, None)
        self._ring()

    async def builds(self) -> list[BuildRow]:
        """See `Store.builds`."""
        self._refuse_closed()
        now = self._clock.monotonic()
        workers = Counter(row.build for row, until in self.state.workers.values() if row.build and until > now)
        runs = Counter(run.build for run in self.state.runs.values() if run.build and run.ended is None)
        return [
            BuildRow(
                name=name, workers=workers[name], runs=runs[name], draining=name in self.state.draining,
                retired=name in self.state.retired,
            )
            for name in sorted({*workers, *runs, *self.lanes, *self.state.retired, *self.state.draining} - {""})
        ]  # fmt: skip

    async def retired(self) -> set[str]:
        """See `Store.retired`."""
        self._refuse_closed()
        return set(self.state.retired)

    async def retire(self, build: str) -> None:
        """See `Store.retire`."""
        self._refuse_closed()
        self.state.retired.add(build)
        self.state.lanes |= dict.fromkeys(self.lanes.get(build, ()), "")
        self._ring()

    async def drain(self, build: str, on: bool) -> None:
        """See `Store.drain`."""
        self._refuse_closed()
        if self.partitions > 1:  # else whoever has the one does all the work
            (self.state.draining.add if on else self.state.draining.discard)(build)

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        if not batch.epochs:
            raise LeaseLost("a commit must name the partitions that it is for")
        for partition, epoch in batch.epochs.items():
            self._held(partition, epoch)
        if inbox := self._unread(batch):
            return Appended(committed=False, inbox=inbox)
        conflicts = self._conflicts(batch.starts)
        if conflicts and batch.all_or_nothing:
            return Appended(committed=False, conflicts=conflicts)
        self._refuse_repeats(batch)
        refused = {id(start) for start, _ in conflicts}
        for start in batch.starts:
            start.key = 0
            if id(start) not in refused:
                self._start(start)
        self._record(batch)
        self._ring()
        return Appended(committed=True, conflicts=[(start, _copy(self._found(start))) for start, _ in conflicts])

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """See `Store.send`."""
        conflicts = await self.send_many([(message, start)])
        return conflicts[0][1] if conflicts else None

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        self._refuse_closed()
        if conflicts := self._conflicts([start for _, start in sends if start is not None]):
            for _, start in sends:
                if start is not None:
                    start.key = 0
            return conflicts
        for message, start in sends:
            if start is not None:
                self._start(start)
            self._send(message)
        self._changed.add()
        self._ring()
        return []

    async def waiting(self, partition: int | None = None) -> list[Message]:
        """See `Store.waiting`."""
        self._refuse_closed()
        return [_copy(m) for _, m in sorted(self.state.inbox.items()) if partition in (None, m.partition)]

    async def take_reply(self, reply: str) -> bytes | None:
        """See `Store.take_reply`."""
        self._refuse_closed()
        return self.state.replies.pop(reply, (None, 0))[0]

    async def wait_changed(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        self._refuse_closed()
        if not self._changed.news():
            await self._changed.next(timeout)
        self._changed.heard()

    async def wait_messages(self, timeout: float) -> None:
        """See `Store.wait_messages`."""
        self._refuse_closed()
        if not self._sent.news():
            await self._sent.next(timeout)
        self._sent.heard()

    async def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        self._refuse_closed()
        found = self.state.find(tenant, run_id)
        return None if found is None else _copy(found)

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        self._refuse_closed()
        newest = sorted(self.state.runs.values(), key=attrgetter("key"), reverse=True)
        return [_copy(run) for run in islice((r for r in newest if self._fits(r, where)), where.limit)]

    async def run_by_key(self, key: int) -> RunRow | None:
        """See `Store.run_by_key`."""
        self._refuse_closed()
        found = self.state.runs.get(key)
        return None if found is None or key in self.state.deleted else _copy(found)

    async def open_runs(self, partitions: Sequence[int], after: int, limit: int) -> list[RunRow]:
        """See `Store.open_runs`."""
        found = (r for r in self._open(partitions, after) if r.status != "waiting")
        return [_copy(run) for run in islice(found, limit)]

    async def dues(self, partitions: Sequence[int], after: int, limit: int) -> list[tuple[int, int | None]]:
        """See `Store.dues`."""
        found = (r for r in self._open(partitions, after) if r.status == "waiting")
        return [(run.key, run.due) for run in islice(found, limit)]

    def _open(self, partitions: Sequence[int], after: int) -> Iterable[RunRow]:
        self._refuse_closed()
        oldest = sorted(self.state.runs.values(), key=attrgetter("key"))
        return (r for r in oldest if r.key > after and r.partition in partitions and r.ended is None)

    async def events(self, run: int, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        """See `Store.events`."""
        self._refuse_closed()
        history = self._history(run)
        found = [e for e in history if e.seq > after and (until is None or e.seq <= until)][:limit]
        before = [e for e in history if e.seq == after]
        check_chain(found, after, before[0].chain if before else 0, self.url)
        return found

    async def last_event(self, run: int) -> EventRow | None:
        """See `Store.last_event`."""
        self._refuse_closed()
        history = self._history(run)
        return history[-1] if history else None

    async def log(self, after: Mapping[int, int], limit: int) -> list[LogRow]:
        """See `Store.log`."""
        self._refuse_closed()
        found: list[LogRow] = []
        for partition, position in after.items():
            log = self.state.logs.get(partition, [])
            start = bisect_right(log, position, key=attrgetter("position"))
            kept = (e for e in islice(log, start, None) if e.run not in self.state.deleted)
            found += [self._logged(partition, e) for e in islice(kept, limit)]
        return found

    def _logged(self, partition: int, e: EventRow) -> LogRow:
        run = self.state.runs[e.run]
        return LogRow(partition, e.position, run.tenant, run.run_id, run.workflow, e.seq, e.kind, e.version, e.data)

    async def cursors(self, exporter: str | None = None) -> list[CursorRow]:
        """See `Store.cursors`."""
        self._refuse_closed()
        last = {partition: log[-1].position for partition, log in self.state.logs.items() if log}
        return [
            CursorRow(exporter=name, partition=partition, position=position, last=last.get(partition, 0))
            for (name, partition), position in sorted(self.state.cursors.items())
            if exporter in (None, name)
        ]

    async def drop_exporter(self, exporter: str) -> int:
        """See `Store.drop_exporter`."""
        self._refuse_closed()
        gone = [key for key in self.state.cursors if key[0] == exporter]
        for key in gone:
            del self.state.cursors[key]
        return len(gone)

    async def seen(self, run: int) -> set[str]:
        """See `Store.seen`."""
        self._refuse_closed()
        return set(self.state.seen.get(run, ()))

    async def blob(self, digest: str) -> bytes | None:
        """See `Store.blob`."""
        self._refuse_closed()
        return self.state.blobs.get(digest)

    async def tickets(self, tenant: str | None, status: str | None, run_id: str | None, limit: int) -> list[TicketRow]:
        """See `Store.tickets`."""
        self._refuse_closed()
        newest = reversed(self.state.tickets.values())
        wanted = (("tenant", tenant), ("status", status), ("run_id", run_id))
        found = (t for t in newest if all(value in (None, getattr(t, name)) for name, value in wanted))
        return [_copy(ticket) for ticket in islice(found, limit)]

    async def get_ticket(self, tenant: str, ticket: str) -> TicketRow | None:
        """See `Store.get_ticket`."""
        self._refuse_closed()
        found = self.state.tickets.get((tenant, ticket))
        return None if found is None else _copy(found)

    async def sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int] = (0, 0), keep: Collection[int] = ()
    ) -> Swept:
        """See `Store.sweep`."""
        self._held(lease.partition, lease.epoch)
        now, state = self._clock.now_us(), self.state
        state.replies = {k: v for k, v in state.replies.items() if v[1] >= now}
        old = sorted((run.ended or 0, run.key) for run in state.runs.values() if self._is_old(run, lease, ended_before))
        page = [place for place in old if place > after][:limit]
        runs = [state.runs[key] for _, key in page]
        blocked = next((i for i, run in enumerate(runs) if not state.exported(run)), len(runs))
        gone = [run.key for run in runs[:blocked] if run.key not in keep and state.needs(run) is None]
        for key in gone:
            self._delete(key)
        more = blocked == len(page) == limit
        return Swept(runs=len(gone), after=page[-1] if more and page else None)

    def _is_old(self, run: RunRow, lease: Lease, ended_before: int) -> bool:
        return (
            run.partition == lease.partition
            and run.ended is not None
            and run.ended < ended_before
            and run.key not in self.state.deleted
        )

    async def checkpoints(self, partition: int, after: int, limit: int) -> list[EventRow]:
        """See `Store.checkpoints`."""
        self._refuse_closed()
        runs = (run.key for run in self.state.runs.values() if run.partition == partition)
        every = (event for key in runs for event in self.state.events.get(key, ()))
        passed = self.state.passed(partition)
        found = [event for event in every if event.kind == "checkpoint" and after < event.position <= passed]
        return sorted(found, key=attrgetter("position"))[:limit]

    async def trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        """See `Store.trim`."""
        self._held(lease.partition, lease.epoch)
        total = 0
        for cut in cuts:
            run = self.state.runs.get(cut.run)
            if run is None or run.ended is not None or run.partition != lease.partition:
                continue
            if cut.checkpoint <= run.checkpoint:
                total += self._trim(run, cut.until, limit - total)
        return total

    def _trim(self, run: RunRow, until: int, limit: int) -> int:
        events = self.state.events.get(run.key, [])
        keep = max(1, run.origin_seq, *(fork.origin_seq for fork in self.state.forks(run.key)))
        old = [event for event in events if keep < event.seq <= until and event.kind != GAP][:limit]
        if not old:
            return 0
        last = old[-1]
        place, end = bisect_right(events, keep, key=attrgetter("seq")), events.index(last) + 1
        data = gap_data(keep + 1, last.seq, last.chain, last.data)
        gone, gap = set(map(id, events[place:end])), msgspec.structs.replace(last, kind=GAP, version=1, data=data)
        events[place:end] = [gap]
        log = self.state.logs[run.partition]
        log[:] = [gap if event is last else event for event in log if event is last or id(event) not in gone]
        uses = self.state.blob_uses.get(run.key, {})
        tickets = [t.data for t in self.state.tickets.values() if (t.tenant, t.run_id) == (run.tenant, run.run_id)]
        kept = b" ".join((*(event.data for event in events[:place]), *tickets))
        unused = [digest for digest, seq in uses.items() if seq <= last.seq and digest.encode() not in kept]
        for digest in unused:
            del uses[digest]
        self.state.drop_unused(unused)
        return len(old)

    async def delete_run(
        self, lease: Lease, key: int, takes: Sequence[int] = (), replies: Sequence[ReplyRow] = ()
    ) -> None:
        """See `Store.delete_run`."""
        self._held(lease.partition, lease.epoch)
        run = self.state.runs.get(key)
        if run is not None and key not in self.state.deleted and run.partition == lease.partition:
            if run.ended is None:
                raise NotFinished(
                    "only a run that has ended can be deleted; cancel or terminate it first", run_id=run.run_id
                )
            parent, exported = self.state.needs(run), self.state.exported(run)
            if parent is not None or not exported:
                raise still_needed(run.run_id, parent.run_id if parent is not None and exported else None)
            self._delete(key)
        self._answer(takes, replies)
        self._ring()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("this store was closed")

    def _held(self, partition: int, epoch: int) -> Held:
        self._refuse_closed()
        held = self.state.partitions.get(partition)
        if held is None or held.epoch != epoch:
            self._lost(partition, epoch)
            raise LeaseLost(f"partition {partition} is no longer held under epoch {epoch}; another process owns it now")
        return held

    def _lost(self, partition: int, epoch: int) -> None:
        if self._locks.get(partition) == epoch:
            self._unlock(partition)

    def _unlock(self, partition: int) -> None:
        if self._locks.pop(partition, None) is not None and self.state.locks.get(partition) is self:
            del self.state.locks[partition]

    def _unread(self, batch: Append) -> list[Message]:
        return [m for partition, epoch in batch.epochs.items() for m in self._unread_in(partition, epoch, batch.takes)]

    def _unread_in(self, partition: int, epoch: int, takes: list[int]) -> list[Message]:
        before, mark = self._read_to.get(partition, (0, 0))
        if before != epoch:
            mark = 0
        new = [m for m in self.state.inbox.values() if m.partition == partition and m.id > mark]
        fresh = [m for m in new if m.id not in takes][:_INBOX_PAGE]
        if fresh or new:
            mark = (fresh or new)[-1].id
        self._read_to[partition] = (epoch, mark)
        return [_copy(m) for m in fresh]

    def _conflicts(self, starts: Sequence[RunRow]) -> list[tuple[RunRow, RunRow]]:
        taken: dict[tuple[str, str], RunRow] = {}
        conflicts: list[tuple[RunRow, RunRow]] = []
        for start in starts:
            id = (start.tenant, start.run_id)
            found = self.state.find(*id) or taken.setdefault(id, start)
            if found is not start:
                conflicts.append((start, _copy(found)))
        return conflicts

    def _found(self, start: RunRow) -> RunRow:
        return self.state.runs[self.state.ids[start.tenant, start.run_id]]

    def _new_key(self) -> int:
        self.state.last_key += 1
        return self.state.last_key

    def _new_message(self) -> int:
        self.state.last_message += 1
        return self.state.last_message

    def _start(self, start: RunRow) -> None:
        start.key = self._new_key()
        self.state.runs[start.key] = _copy(start)
        self.state.ids[start.tenant, start.run_id] = start.key

    def _refuse_repeats(self, batch: Append) -> None:
        for run, seq, *_ in batch.events:
            if run.key and any(event.seq == seq for event in self.state.events.get(run.key, ())):
                raise StoreCorrupt(f"event {seq} of the run with key {run.key} is there already; nothing was written")
        for run, id in batch.seen:
            if run.key and id in self.state.seen.get(run.key, ()):
                raise StoreCorrupt(f"command {id} of the run with key {run.key} counts already; nothing was written")

    def _record(self, batch: Append) -> None:
        state = self.state
        for run, seq, kind, version, chain, data in batch.events:
            if run.key:
                partition = run.partition
                position = state.last_positions[partition] = state.last_positions.get(partition, 0) + 1
                row = EventRow(position, run.key, seq, batch.epochs[partition], kind, version, chain, data)
                state.events.setdefault(run.key, []).append(row)
                state.logs.setdefault(partition, []).append(row)
        for summary in batch.summaries:
            if summary.key in state.runs:
                self._summarize(state.runs[summary.key], summary)
        for run, id in batch.seen:
            if run.key:
                state.seen.setdefault(run.key, set()).add(id)
        last = {run.key: seq for run, seq, *_ in batch.events}
        for run, digest, data in batch.blobs:
            self._use_blob(run, digest, data, last.get(run.key, LAST_SEQ))
        for ticket in batch.tickets:
            state.tickets[ticket.tenant, ticket.id] = _copy(ticket)
        for message in batch.sends:
            self._send(message)
        for exporter, partition, position in batch.cursors:
            if position == 0:
                state.cursors.setdefault((exporter, partition), 0)
            elif (exporter, partition) in state.cursors:
                state.cursors[exporter, partition] = position
        self._answer(batch.takes, batch.replies)

    def _answer(self, takes: Sequence[int], replies: Sequence[ReplyRow]) -> None:
        for id in takes:
            self.state.inbox.pop(id, None)
        for reply, body, expires in replies:
            self.state.replies[reply] = (body, expires)

    def _summarize(self, run: RunRow, summary: RunRow) -> None:
        if run.status == "pending":
            run.build = summary.build
        run.status, run.updated, run.ended, run.due = summary.status, summary.updated, summary.ended, summary.due
        run.reason, run.checkpoint, run.deaths = summary.reason, summary.checkpoint, summary.deaths
        run.attributes = dict(summary.attributes)

    def _use_blob(self, run: Keyed, digest: str, data: bytes, seq: int) -> None:
        if run.key:
            self.state.blobs.setdefault(digest, data)
            uses = self.state.blob_uses.setdefault(run.key, {})
            uses[digest] = max(seq, uses.get(digest, 0))

    def _send(self, message: Message) -> None:
        message.id = self._new_message()
        if message.partition < 0:
            id = (message.tenant, message.run_id)
            run = self.state.find(*id)
            message.partition = partition_of(*id, self.partitions) if run is None else run.partition
        self.state.inbox[message.id] = _copy(message)
        for changed in self.state.sent:
            changed.add()

    def _ring(self) -> None:
        for changed in self.state.changed:
            if changed is not self._changed:
                changed.add()

    def _fits(self, run: RunRow, where: RunFilter) -> bool:
        return (
            run.key not in self.state.deleted
            and where.tenant in (None, run.tenant)
            and (not where.status or run.status in where.status)
            and where.workflow in (None, run.workflow)
            and where.parent in (None, run.parent)
            and where.attributes.items() <= run.attributes.items()
            and (where.before is None or run.key < where.before)
        )

    def _history(self, key: int) -> list[EventRow]:
        run = self.state.runs.get(key)
        own = self.state.events.get(key, [])
        if run is None or run.origin is None:
            return own
        return [e for e in self._history(run.origin) if e.seq <= run.origin_seq] + own

    def _delete(self, key: int) -> None:
        state = self.state
        run = state.runs[key]
        state.ids.pop((run.tenant, run.run_id))
        state.seen.pop(key, None)
        state.tickets = {k: t for k, t in state.tickets.items() if (t.tenant, t.run_id) != (run.tenant, run.run_id)}
        state.deleted.add(key)
        gone: int | None = key
        while gone is not None and gone in state.deleted and not any(state.forks(gone)):
            gone = self._erase(gone)

    def _erase(self, key: int) -> int | None:
        state = self.state
        state.deleted.discard(key)
        if state.events.pop(key, None):
            log = state.logs[state.runs[key].partition]
            log[:] = [event for event in log if event.run != key]
        digests = state.blob_uses.pop(key, {}).keys()
        state.drop_unused(digests)
        return state.runs.pop(key).origin


def _copy(row: T) -> T:
    new = copy(row)
    for name in ("attributes", "assignees"):
        if hasattr(new, name):
            setattr(new, name, copy(getattr(new, name)))
    return new


async def open_store(url: str, *, clock: Clock, process: Process, settings: Settings | None = None) -> MemoryStore:
    """A new, empty store that lives as long as the object.

    Raises:
        BadUrl: the URL is not `sqlite://`.
    """
    if url not in ("sqlite://", "sqlite:///", "memory://"):
        raise BadUrl(f"{url!r} is no store in memory: write sqlite://")
    return MemoryStore(clock, url=url)
