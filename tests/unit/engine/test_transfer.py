"""Export and import of runs, where the command line does not reach: a store that changes meanwhile, commits, leases."""

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from aob.clock import SystemClock
from aob.engine.exports import BadExport, first_line, last_line, lines_of, read_parcels
from aob.engine.payloads import digest_of
from aob.engine.transfer import (
    Parcel,
    StoreServed,
    export_runs,
    import_runs,
    refuse_existing,
    run_names,
    standing_still,
)
from aob.errors import LeaseLost, RunExists, StoreCorrupt
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.rows import LANES, Append, EventRow, Lease, Message, RunRow
from aob.testing.conformance.stores.setting import Story, a_message, a_run, committed, taken, told

BLOB = b'"' + b"x" * 100 + b'"'
REFERENCE = msgspec.json.encode({"$aob": ["blob", digest_of(BLOB), len(BLOB)]})
STEP = b'[5,"a#1",0,%s,1,0,null]'


async def all_of(store: MemoryStore, still: bool = True) -> list[Parcel]:
    return [parcel async for parcel in export_runs(store, await run_names(store, None), still)]


async def put(store: MemoryStore, lease: Lease, parcels: Iterable[Parcel], skip_existing: bool = False) -> list[int]:
    return [number async for number in import_runs(store, {0: lease.epoch}, parcels, skip_existing)]


async def filled(store: MemoryStore) -> Lease:
    """A store with a run that has a payload, a counted command, a ticket and two messages."""
    lease = await taken(store)
    row = a_run("r", status="waiting", due=77, attributes={"color": "red"}, checkpoint=0, parent="p", reason="because")
    story = Story(row)
    await committed(
        store,
        Append(
            epochs={0: lease.epoch}, starts=[row], events=story.tell(b"[1]", STEP % REFERENCE),
            blobs=[(row, digest_of(BLOB), BLOB)], seen=[(row, "once")],
        ),
    )  # fmt: skip
    await store.send(a_message("r", body=b'{"n":1}'))
    await store.send(a_message("r", body=b'{"n":2}'))
    await store.send(a_message("r", kind="query", body=b"[]", reply="somebody", expires=9))
    await store.send(a_message("another"))
    return lease


async def test_a_parcel_has_all_there_is_of_a_run() -> None:
    store = MemoryStore(SystemClock())
    await filled(store)
    (parcel,) = await all_of(store)
    assert [event[2] for event in parcel.events] == [b"[1]", STEP % REFERENCE]
    assert parcel.blobs == [(digest_of(BLOB), BLOB)]
    assert parcel.seen == ["once"]
    assert [m.body for m in parcel.messages] == [b'{"n":1}', b'{"n":2}']

    other = MemoryStore(SystemClock())
    lease = await taken(other)
    await other.send(a_message("was here before"))
    assert await put(other, lease, [parcel]) == [1]
    (again,) = await all_of(other)
    assert again == msgspec.structs.replace(
        parcel, row=again.row, messages=again.messages
    )  # but for keys and numbers of messages
    assert msgspec.structs.replace(again.row, key=parcel.row.key) == parcel.row
    assert [m.body for m in again.messages] == [b'{"n":1}', b'{"n":2}']
    assert [m.run_id for m in await other.waiting(0)] == ["was here before", "r", "r"]


async def test_lines_and_back() -> None:
    store = MemoryStore(SystemClock())
    await filled(store)
    parcels = await all_of(store)
    lines = [first_line(), *(line for parcel in parcels for line in lines_of(parcel)), last_line(1)]
    assert list(read_parcels(lines)) == parcels
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    for missing in range(len(lines)):
        with pytest.raises(BadExport, match=r"^line \d+: "):
            list(read_parcels(lines[:missing] + lines[missing + 1 :]))


class Busy(MemoryStore):
    """A store whose owner commits whenever somebody has read events."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(SystemClock(), state)
        self.commits: list[Append] = []

    async def events(self, run: int, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        found = await super().events(run, after, limit, until)
        if self.commits:
            await committed(MemoryStore(SystemClock(), self.state), self.commits.pop(0))
        return found


async def test_a_run_that_changes_while_it_is_read_is_exported_as_it_was_at_one_moment() -> None:
    state = MemoryState()
    store = MemoryStore(SystemClock(), state)
    lease = await taken(store)
    row = a_run("r")
    story = Story(row)
    await committed(store, Append(epochs={0: lease.epoch}, starts=[row], events=story.tell(b"[1]")))
    busy = Busy(state)
    ended = msgspec.structs.replace(row, status="completed", ended=9)
    busy.commits = [Append(epochs={0: lease.epoch}, events=story.tell(b"[2]", kind="run_completed"), summaries=[ended])]
    (parcel,) = await all_of(busy, still=False)
    assert busy.commits == []
    assert (parcel.row.status, [event[0] for event in parcel.events]) == (
        "completed", ["step_completed", "run_completed"]
    )  # fmt: skip


async def test_a_run_that_never_stands_still_is_refused() -> None:
    state = MemoryState()
    store = MemoryStore(SystemClock(), state)
    lease = await taken(store)
    row = a_run("r")
    await committed(store, Append(epochs={0: lease.epoch}, starts=[row]))
    busy = Busy(state)
    busy.commits = [
        Append(epochs={0: lease.epoch}, summaries=[msgspec.structs.replace(row, updated=n)]) for n in range(10_000)
    ]
    with pytest.raises(StoreServed, match="pause it"):
        await all_of(busy, still=False)


async def test_a_payload_that_is_missing_ends_the_export() -> None:
    store = MemoryStore(SystemClock())
    lease = await taken(store)
    row = a_run("r")
    await committed(store, Append(epochs={0: lease.epoch}, starts=[row]))
    await told(store, lease, *Story(row).tell(STEP % REFERENCE))
    with pytest.raises(StoreCorrupt, match="missing"):
        await all_of(store)


def many(count: int) -> list[Parcel]:
    return [Parcel(row=RunRow(**msgspec.structs.asdict(a_run(f"r{n}")))) for n in range(count)]


async def test_runs_come_in_commits_in_their_order() -> None:
    store = MemoryStore(SystemClock())
    assert await put(store, await taken(store), many(1_200)) == [500, 500, 200]
    assert [name for _, name in await run_names(store, "t")] == [f"r{n}" for n in range(1_200)]


async def test_taken_ids_refuse_a_commit_or_are_skipped() -> None:
    store = MemoryStore(SystemClock())
    lease = await taken(store)
    await put(store, lease, many(3))
    with pytest.raises(RunExists, match=r"r0, r1, r2; nothing was imported"):
        await refuse_existing(store, [("t", f"r{n}") for n in range(5)])
    await refuse_existing(store, [("t", "r7"), ("other", "r0")])
    with pytest.raises(RunExists, match="r0, r1, r2"):
        await put(store, lease, many(5))
    assert len(await run_names(store, "t")) == 3
    assert await put(store, lease, many(5), skip_existing=True) == [2]
    assert await put(store, lease, many(5), skip_existing=True) == [0]


async def test_nothing_is_imported_under_a_lease_that_is_lost() -> None:
    store = MemoryStore(SystemClock())
    lease = await taken(store)
    await store.release([lease])
    with pytest.raises(LeaseLost):
        await put(store, lease, many(1))


async def test_standing_still_keeps_workers_out_for_as_long_as_it_takes_and_leaves_no_trace() -> None:
    state = MemoryState()
    store, other = (MemoryStore(SystemClock(), state) for _ in range(2))
    async with standing_still(store, SystemClock(), "me", 0.05) as lease:
        assert lease is not None
        async with standing_still(other, SystemClock(), "you", 0.05) as second:
            assert second is None
        await asyncio.sleep(0.2)
        assert await other.acquire(0, "you", 0.05) is None
    dead = await taken(other)
    assert dead.clean
    await other.close()  # without releasing: it died
    async with standing_still(store, SystemClock(), "me", 0.05) as lease:
        assert lease is not None
    assert not (await taken(store)).clean


def test_messages_keep_their_bodies_as_bytes() -> None:
    parcel = Parcel(row=a_run("r"), messages=[Message(tenant="t", run_id="r", kind="signal", body=b"\x00\xff")])
    lines = [first_line(), *lines_of(parcel), last_line(1)]
    assert next(read_parcels(lines)).messages[0].body == b"\x00\xff"


async def test_pinned_runs_keep_their_build_and_go_into_its_lanes() -> None:
    here, there = MemoryStore(SystemClock()), MemoryStore(SystemClock(), MemoryState(4))
    lease = await taken(here)
    rows = [a_run(build=build, run_id=f"{build}{end}", ended=end) for build in ("b1", "b2") for end in (None, 9)]
    for row in rows:
        row.status = "running" if row.ended is None else "completed"
    child = a_run("child", parent="b1None")
    await committed(here, Append(epochs={0: lease.epoch}, starts=[*rows, child]))
    await here.retire("b2")
    parcels = await all_of(here)
    for build in ("b1", "b2"):
        await there.make_lanes(build, 2)
    async with standing_still(there, SystemClock(), "me", 60.0) as epochs:
        assert epochs is not None
        assert len(epochs) == 8
        async with standing_still(MemoryStore(SystemClock(), there.state), SystemClock(), "you", 60.0) as none:
            assert none is None
        assert [n async for n in import_runs(there, epochs, parcels, False)] == [5]
    found = {row.run_id: row for row in there.state.runs.values()}
    assert {name: row.build for name, row in found.items()} == {
        "b1None": "b1", "b19": "b1", "b2None": None, "b29": None, "child": None,
    }  # fmt: skip
    assert found["b1None"].partition in there.lanes["b1"]
    assert max(found[name].partition for name in ("b2None", "child")) < LANES
