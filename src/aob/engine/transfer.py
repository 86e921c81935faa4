"""Taking runs from one store to another: history, payloads, tickets, and messages that no worker has read yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager

import msgspec

from aob.clock import Clock
from aob.engine.ids import storable_id
from aob.engine.payloads import blobs_in, blobs_of, may_be_marked
from aob.errors import OperatorError, RunExists, StoreCorrupt
from aob.kernel import events as ev
from aob.stores.chain import follow
from aob.stores.protocol import Store
from aob.stores.rows import LANES, Append, EventRecord, Lease, Message, RunFilter, RunRow, TicketRow, partition_of

_PAGE = 1_000
_COMMIT_EVENTS = 4_000
_COMMIT_RUNS = 500
_ATTEMPTS = 50
_ALL = 1 << 31
_NAMED = 10

Inbox = dict[tuple[str, str], list[Message]]


class StoreServed(OperatorError):
    """A worker owns the store, and this needs that none does."""

    code = "store_served"


class Parcel(msgspec.Struct, kw_only=True):
    """One run with all there is of it. A fork's events begin with those that it shares with its origin.

    Args:
        row: its summary, as it was in its store.
        events: kind, version and data of each, in order from `seq` 1; a gap stands for those that were deleted.
        chain: the checksum over all of them.
        seen: ids of commands that it has counted.
        blobs: content hash and bytes of large payloads.
        messages: what its inbox holds for it.
    """

    row: RunRow
    events: list[tuple[str, int, bytes]] = []
    chain: int = 0
    seen: list[str] = []
    blobs: list[tuple[str, bytes]] = []
    tickets: list[TicketRow] = []
    messages: list[Message] = []


@asynccontextmanager
async def standing_still(store: Store, clock: Clock, name: str, ttl: float) -> AsyncGenerator[dict[int, int] | None]:
    """While the block lasts no worker changes the store; None where one owns some of it already.

    The block is given the epoch of every partition.

    Args:
        name, ttl: of the lease that is taken.
    """
    leases, count = await _take_all(store, name, ttl)
    if len(leases) < count:
        await _give_back(store, leases)
        yield None
        return
    renewing = asyncio.get_running_loop().create_task(_renew(store, clock, leases, ttl))
    try:
        yield {lease.partition: lease.epoch for lease in leases}
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await _give_back(store, leases)


async def _take_all(store: Store, name: str, ttl: float) -> tuple[list[Lease], int]:
    """What is free, lanes too, and how many there are."""
    count = store.partitions + len(store.lanes.get("", ()))
    leases = await store.acquire_some(name, ttl, count)
    for build, lanes in store.lanes.items():
        if build:
            leases += await store.acquire_some(name, ttl, len(lanes), build)
            count += len(lanes)
    return leases, count


async def _give_back(store: Store, leases: list[Lease]) -> None:
    for clean in (True, False):
        await store.release([lease for lease in leases if lease.clean is clean], clean=clean)


async def _renew(store: Store, clock: Clock, leases: list[Lease], ttl: float) -> None:
    while True:
        await clock.sleep(ttl / 3)
        await store.renew(leases, ttl)


# --- out ----------------------------------------------------------------------------------------------


async def run_names(store: Store, tenant: str | None) -> list[tuple[str, str]]:
    """(tenant, run_id) of every run, oldest first."""
    found: list[tuple[str, str]] = []
    before: int | None = None
    while rows := await store.list_runs(RunFilter(tenant=tenant, before=before, limit=_PAGE)):
        found += [(row.tenant, row.run_id) for row in rows]
        before = rows[-1].key
    return found[::-1]


async def export_runs(store: Store, names: Iterable[tuple[str, str]], still: bool) -> AsyncGenerator[Parcel]:
    """Parcels of runs; one that is deleted meanwhile is left out.

    Args:
        still: nobody changes the store meanwhile. Otherwise each parcel is a state that its run was in.

    Raises:
        StoreCorrupt: a payload is missing.
    """
    inbox = _by_run(await store.waiting()) if still else None
    retired = await store.retired()
    for tenant, run_id in names:
        parcel = await _packed(store, tenant, run_id, inbox)
        if parcel is not None:
            if parcel.row.build in retired:
                parcel.row.build = None
            await _add_blobs(store, parcel)
            yield parcel


async def _packed(store: Store, tenant: str, run_id: str, inbox: Inbox | None) -> Parcel | None:
    """What there is of a run. Events are only ever added, so if all else is the same before and after, they fit it."""
    before = await _around(store, tenant, run_id, inbox)
    for _ in range(_ATTEMPTS):
        if before is None:
            return None
        parcel = before
        seq, chain, events = 0, 0, list[tuple[str, int, bytes]]()
        while stored := await store.events(parcel.row.key, seq, _PAGE):
            seq, chain = stored[-1].seq, stored[-1].chain
            events += [(e.kind, e.version, e.data) for e in stored]
        before = parcel if inbox is not None else await _around(store, tenant, run_id, None)
        if before == parcel:
            parcel.chain, parcel.events = chain, events
            return parcel
    raise StoreServed(f"run {run_id!r} changes faster than it can be read: pause it, or stop the worker", run_id=run_id)


async def _around(store: Store, tenant: str, run_id: str, inbox: Inbox | None) -> Parcel | None:
    """All but events and blobs."""
    row = await store.get_run(tenant, run_id)
    if row is None:
        return None
    messages = _by_run(await store.waiting(0)) if inbox is None else inbox
    return Parcel(
        row=row, seen=sorted(await store.seen(row.key)), tickets=await store.tickets(tenant, None, run_id, _ALL),
        messages=messages.get((tenant, run_id), []),
    )  # fmt: skip


async def _add_blobs(store: Store, parcel: Parcel) -> None:
    digests: dict[str, None] = {}
    for kind, version, data in parcel.events:
        if may_be_marked(data):
            digests |= dict.fromkeys(blobs_in(ev.decode_event(kind, version, data, run_id=parcel.row.run_id)))
    for ticket in parcel.tickets:
        digests |= dict.fromkeys(blobs_of(ticket.data))
    for digest in digests:
        data = await store.blob(digest)
        if data is None:
            raise StoreCorrupt(f"the blob {digest} is missing: restore a backup of the store", run_id=parcel.row.run_id)
        parcel.blobs.append((digest, data))


def _by_run(messages: Sequence[Message]) -> Inbox:
    """What waits for each run; messages whose sender waits for an answer are that sender's alone."""
    found: Inbox = {}
    for message in messages:
        if message.reply is None:
            found.setdefault((message.tenant, message.run_id), []).append(message)
    return found


# --- in -----------------------------------------------------------------------------------------------


async def refuse_existing(store: Store, names: Iterable[tuple[str, str]]) -> None:
    """See that none of these runs is in the store.

    Raises:
        RunExists: some are; they are named.
    """
    there = [run_id for tenant, run_id in names if await store.get_run(tenant, run_id) is not None]
    if there:
        more = f" and {len(there) - _NAMED:,} more" if len(there) > _NAMED else ""
        raise RunExists(f"in the store already: {', '.join(there[:_NAMED])}{more}; nothing was imported")


async def import_runs(
    store: Store, epochs: dict[int, int], parcels: Iterable[Parcel], skip_existing: bool
) -> AsyncGenerator[int]:
    """Put runs into a store; each is there whole or not at all. What they wait for goes on with the next worker.

    Args:
        epochs: of every partition, as `standing_still` gives them.
        skip_existing: leave out runs whose id is taken.

    Yields:
        How many runs a commit has added.

    Raises:
        RunExists: an id is taken; the runs of commits before it are there.
        LeaseLost: a worker took the store.
    """
    homes: dict[tuple[str, str], int] = {}
    waiting: list[Parcel] = []
    events = 0
    for parcel in parcels:
        homes[parcel.row.tenant, parcel.row.run_id] = await _home(store, parcel.row, homes)
        waiting.append(parcel)
        events += len(parcel.events)
        if events >= _COMMIT_EVENTS or len(waiting) >= _COMMIT_RUNS:
            yield await _commit(store, epochs, homes, waiting, skip_existing)
            waiting, events = [], 0
    if waiting:
        yield await _commit(store, epochs, homes, waiting, skip_existing)


async def _home(store: Store, row: RunRow, homes: dict[tuple[str, str], int]) -> int:
    """The partition where a run is to live: a lane of its build, its parent's, or its own."""
    if row.build is not None and (lanes := store.lanes.get(row.build)):
        return lanes[partition_of(row.tenant, row.run_id, len(lanes))]
    if row.parent is not None:
        home = homes.get((row.tenant, row.parent))
        if home is None and (parent := await store.get_run(row.tenant, row.parent)) is not None:
            home = parent.partition
        if home is not None and home < LANES:
            return home
    return partition_of(row.tenant, row.run_id, store.partitions)


async def _commit(
    store: Store,
    epochs: dict[int, int],
    homes: dict[tuple[str, str], int],
    parcels: list[Parcel],
    skip_existing: bool,
) -> int:
    while parcels:
        rows = [_unpacked(parcel, homes[parcel.row.tenant, parcel.row.run_id]) for parcel in parcels]
        batch = _batch(epochs, parcels, rows)
        result = await store.append(batch)
        if not result.committed and not result.conflicts:
            result = await store.append(batch)  # messages of others came first: they stay for the next worker
        if result.committed:
            return len(parcels)
        taken = {id(row) for row, _ in result.conflicts}
        if not skip_existing:
            raise RunExists(f"in the store already: {', '.join(r.run_id for r in rows if id(r) in taken)}")
        parcels = [p for p, row in zip(parcels, rows, strict=True) if id(row) not in taken]
    return 0


def _unpacked(parcel: Parcel, partition: int) -> RunRow:
    """A run's summary for another store: there it stands on its own."""
    return msgspec.structs.replace(parcel.row, key=0, partition=partition, origin=None, origin_seq=0)


def _batch(epochs: dict[int, int], parcels: list[Parcel], rows: list[RunRow]) -> Append:
    batch = Append(epochs=epochs, starts=rows, events=[], all_or_nothing=True)
    records: list[EventRecord] = []
    for parcel, row in zip(parcels, rows, strict=True):
        seq = chain = 0
        for kind, version, data in parcel.events:
            seq, chain = follow(seq, chain, kind, data)
            records.append((row, seq, kind, version, chain, data))
        batch.blobs = [*batch.blobs, *((row, digest, data) for digest, data in parcel.blobs)]
        batch.seen = [*batch.seen, *((row, storable_id(id)) for id in parcel.seen)]
        batch.tickets = [*batch.tickets, *parcel.tickets]
        batch.sends = [*batch.sends, *(msgspec.structs.replace(m, id=0, partition=-1) for m in parcel.messages)]
    batch.events = records
    return batch
