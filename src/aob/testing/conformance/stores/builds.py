"""Builds: what is pinned to one, its lanes, and runs that move into these. A store with one partition has no lanes."""

from __future__ import annotations

from aob.stores.protocol import Store
from aob.stores.rows import LANES, Append, Lease, RunRow
from aob.testing.conformance.stores.leases import lost
from aob.testing.conformance.stores.setting import (
    TTL,
    StoreSetting,
    Story,
    a_message,
    a_run,
    committed,
    datas,
    ended,
    started,
    taken,
    told,
)


async def lanes_of(store: Store, build: str, owner: str, count: int = 2) -> list[int]:
    """The lanes of a build, made for an owner that lives."""
    await store.make_lanes(build, count)
    await store.announce(owner, TTL, build)
    return list(store.lanes.get(build, ()))


async def pending(store: Store, run_id: str, *signals: str) -> RunRow:
    """A run that has not begun, with its start and signals in the inbox."""
    row = a_run(run_id, status="pending")
    assert await store.send(a_message(run_id, "start", partition=-1), row) is None
    for signal in signals:
        await store.send(a_message(run_id, "signal", partition=-1, body=f'"{signal}"'.encode()))
    return row


async def unread(store: Store, *leases: Lease) -> list[tuple[str, str, bytes]]:
    """What an empty commit of these partitions is told first."""
    appended = await store.append(Append(epochs={lease.partition: lease.epoch for lease in leases}))
    return [(m.run_id, m.kind, m.body) for m in appended.inbox]


class BuildTests(StoreSetting):
    """Builds."""

    async def test_a_run_keeps_its_build(self) -> None:
        async with self.owned() as (store, lease):
            run, free = a_run(build="b1"), a_run("s")
            await started(store, lease, run, free)
            run.build = "b2"
            await ended(store, lease, run)
            found = await store.get_run("t", "r")
            other = await store.get_run("t", "s")
            assert found is not None
            assert other is not None
            assert (found.build, other.build) == ("b1", None)

    async def test_a_pending_run_is_pinned_when_it_begins(self) -> None:
        async with self.owned() as (store, lease):
            run = a_run(status="pending")
            await started(store, lease, run)
            run.status, run.build = "running", "b1"
            await committed(store, Append(epochs={0: lease.epoch}, summaries=[run]))
            found = await store.run_by_key(run.key)
            assert found is not None
            assert (found.status, found.build) == ("running", "b1")

    async def test_builds_are_counted(self) -> None:
        async with self.owned() as (store, lease):
            over = a_run("over", build="b1")
            await started(store, lease, a_run("x", build="b1"), a_run("y", build="b1"), a_run("z"), over)
            await ended(store, lease, over)
            await store.retire("b0")
            assert [(b.name, b.runs, b.retired) for b in await store.builds()] == [("b0", 0, True), ("b1", 2, False)]
            assert await store.retired() == {"b0"}
            await store.retire("b1")
            await store.retire("b1")
            assert await store.retired() == {"b0", "b1"}

    async def test_a_build_that_is_served_is_seen(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            await a.announce("a", TTL, "b1")
            await taken(a)
            assert [(x.name, x.workers) for x in await b.builds()] == [("b1", 1)]

    # --- lanes ------------------------------------------------------------------------------------

    async def test_lanes_are_made_once(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lanes = await lanes_of(a, "b1", "a")
            if a.partitions == 1:
                assert lanes == []
                return
            assert lanes == [LANES, LANES + 1]
            assert await lanes_of(b, "b1", "b", 5) == lanes
            assert await lanes_of(b, "b2", "b", 1) == [LANES + 2]
            assert b.partitions == a.partitions < LANES
            await a.leave("a")
            await b.leave("b")
            assert [(x.name, x.workers, x.runs) for x in await b.builds()] == [("b1", 0, 0), ("b2", 0, 0)]

    async def test_only_their_build_is_given_lanes(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lanes = await lanes_of(a, "b1", "a")
            if not lanes:
                return
            await lanes_of(b, "b2", "b")
            ordinary = await b.acquire_some("b", TTL, 1_000)
            assert len(ordinary) == b.partitions
            assert max(lease.partition for lease in ordinary) < LANES
            assert [lease.partition for lease in await a.acquire_some("a", TTL, 9, "b1")] == lanes
            held = {w.name: (w.build, w.partitions, w.lanes) for w in await b.announce("b", TTL, "b2")}
            assert held == {"a": ("b1", 0, 2), "b": ("b2", b.partitions, 0)}

    async def test_retired_lanes_are_anybodys_and_serve_again(self) -> None:
        async with self.opened() as (_, (store,)):
            lanes = await lanes_of(store, "b1", "a")
            if not lanes:
                return
            (lease, _) = await store.acquire_some("a", TTL, 9, "b1")
            run = a_run(partition=lanes[0], build="b1")
            await started(store, lease, run)
            await store.release([lease])
            await store.retire("b1")
            await store.announce("a", TTL, "b3")
            assert dict(store.lanes) == {"": lanes}
            assert await lanes_of(store, "b1", "a") == []
            again = await store.acquire_some("a", TTL, 1_000)
            assert lanes[0] in {lease.partition for lease in again}
            assert await lanes_of(store, "b3", "a") == [lanes[1], lanes[1] + 1]

    async def test_drained_workers_are_told(self) -> None:
        async with self.opened() as (_, (store,)):
            await store.drain("b1", True)
            draining = [w.draining for w in await store.announce("a", TTL, "b1")]
            await store.drain("b1", False)
            assert [w.draining for w in await store.announce("a", TTL, "b1")] == [False]
            assert draining == [store.partitions > 1]

    # --- moves ------------------------------------------------------------------------------------

    async def test_a_run_moves_with_what_was_sent_to_it_in_order(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            if not (lanes := await lanes_of(a, "b1", "a")):
                return
            row = await pending(b, "r", "1", "2")
            await pending(b, "other")
            found = await a.get_run("t", "r")
            assert found is not None
            lease, lane = await taken(a, found.partition), await taken(a, lanes[0])
            before = await unread(a, lease, lane)
            assert ("r", "signal", b'"2"') in before
            assert await unread(a, lease, lane) == []
            await a.move([(lease, row.key, lanes[0])], "b1")
            await b.send(a_message("r", "signal", partition=-1, body=b'"3"'))
            sent = [("r", "start", b'{"n":1}'), *(("r", "signal", f'"{n}"'.encode()) for n in (1, 2, 3))]
            assert await unread(a, lane) == sent
            assert await unread(a, lease) == []
            moved = await b.get_run("t", "r")
            assert moved is not None
            assert (moved.partition, moved.build, moved.status) == (lanes[0], "b1", "pending")
            assert [m.run_id for m in await b.waiting(lanes[0])] == ["r"] * 4

    async def test_a_move_that_is_repeated_or_late_does_nothing(self) -> None:
        async with self.opened() as (_, (store,)):
            if not (lanes := await lanes_of(store, "b1", "a")):
                return
            row = await pending(store, "r", "1")
            found = await store.get_run("t", "r")
            assert found is not None
            lease = await taken(store, found.partition)
            first, second = [await taken(store, lane) for lane in lanes]
            await store.move([(lease, row.key, lanes[0])], "b1")
            messages = await store.waiting()
            await store.move([(lease, row.key, lanes[0])], "b1")
            await store.move([(lease, row.key, lanes[1])], "b1")
            assert await store.waiting() == messages
            assert [m.kind for m in await store.waiting(lanes[0])] == ["start", "signal"]
            begun = await store.run_by_key(row.key)
            assert begun is not None
            begun.status = "running"
            await committed(
                store, Append(epochs={lanes[0]: first.epoch}, summaries=[begun], takes=[m.id for m in messages])
            )
            await store.move([(first, row.key, lanes[1])], "b1")
            assert await store.waiting(lanes[1]) == []
            assert await unread(store, second) == []
            still = await store.run_by_key(row.key)
            assert still is not None
            assert still.partition == lanes[0]

    async def test_a_move_under_a_lost_lease_is_refused(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            if not (lanes := await lanes_of(a, "b1", "a")):
                return
            row = await pending(a, "r")
            found = await a.get_run("t", "r")
            assert found is not None
            lease = await taken(a, found.partition)
            clock.seconds += TTL + 1
            await taken(b, found.partition, "b")
            assert await lost(a.move([(lease, row.key, lanes[0])], "b1"))
            assert await a.get_run("t", "r") == found

    async def test_runs_in_lanes_are_read_like_others(self) -> None:
        async with self.opened() as (_, (store,)):
            if not (lanes := await lanes_of(store, "b1", "a")):
                return
            lane, lease = await taken(store, lanes[0]), await taken(store, 0)
            run, parent = a_run(partition=lanes[0], build="b1", parent="p"), a_run("p")
            await started(store, lane, run)
            await started(store, lease, parent)
            story = Story(run)
            await told(store, lane, *story.tell(b"1", b"2"))
            assert await datas(store, run.key) == [b"1", b"2"]
            assert [e.position for e in await store.log({lanes[0]: 0}, 10)] == [1, 2]
            assert [r.run_id for r in await store.open_runs([lanes[0]], 0, 10)] == ["r"]
            cursors = [("x", lanes[0], 1)]
            await committed(store, Append(epochs={lanes[0]: lane.epoch}, cursors=cursors))
            await ended(store, lane, run)
            swept = [(await store.sweep(lane, 1_000, 10)).runs]  # an exporter lacks its last event
            await committed(store, Append(epochs={lanes[0]: lane.epoch}, cursors=[("x", lanes[0], 2)]))
            swept.append((await store.sweep(lane, 1_000, 10)).runs)  # its parent, in another partition, is open
            await ended(store, lease, parent)
            swept.append((await store.sweep(lane, 1_000, 10)).runs)
            assert swept == [0, 0, 1]
