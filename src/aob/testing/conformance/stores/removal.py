"""Deleting runs: nothing that somebody still needs goes, and nothing is left behind."""

from __future__ import annotations

from aob.errors import NotFinished
from aob.stores.protocol import Store
from aob.stores.rows import Append, Keyed, Lease, Message, RunFilter, RunRow
from aob.testing.conformance.stores.reads import a_ticket
from aob.testing.conformance.stores.setting import (
    StoreSetting,
    Story,
    a_run,
    committed,
    datas,
    ended,
    started,
    taken,
    told,
)


async def forked(store: Store, lease: Lease, origin: RunRow, run_id: str, shared: int) -> RunRow:
    """A fork with one event of its own."""
    before = await store.events(origin.key, 0, shared)
    fork = a_run(run_id, origin=origin.key, origin_seq=shared)
    own = Story(fork, shared, before[-1].chain).tell(run_id.encode())
    await committed(store, Append(epochs={0: lease.epoch}, starts=[fork], events=own))
    return fork


class RemovalTests(StoreSetting):
    """`sweep` and `delete_run`."""

    async def test_a_sweep_takes_what_ended_long_ago_in_small_batches(self) -> None:
        async with self.owned() as (a, lease):
            runs = [a_run(f"r{n}") for n in range(6)]
            await started(a, lease, *runs)
            for n, run in enumerate(runs[:5]):
                await told(a, lease, *Story(run).tell(b"1"))
                await ended(a, lease, run, at=100 + n)
            assert (await a.sweep(lease, 104, 3)).runs == 3
            assert (await a.sweep(lease, 104, 3)).runs == 1
            assert (await a.sweep(lease, 104, 3)).runs == 0
            assert [run.run_id for run in await a.list_runs(RunFilter())] == ["r5", "r4"]
            assert await a.get_run("t", "r0") is None
            assert await datas(a, runs[0].key) == []
            assert await datas(a, runs[4].key) == [b"1"]

    async def test_a_deletion_takes_messages_and_writes_replies_in_the_same_transaction(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run("x")
            await started(a, lease, run)
            replies = [("answer", b"done", 1 << 60)]
            try:
                await a.delete_run(lease, run.key, replies=replies)
            except NotFinished:
                assert await a.take_reply("answer") is None
            else:
                raise AssertionError("an open run was deleted")
            await ended(a, lease, run)
            asked = Message(tenant="t", run_id="x", kind="delete", body=b"{}", reply="answer")
            await a.send(asked)
            for _ in range(2):
                await a.delete_run(lease, run.key, [asked.id], replies)
                assert await a.get_run("t", "x") is None
                assert await a.waiting() == []
                assert await a.take_reply("answer") == b"done"

    async def test_a_sweep_leaves_other_partitions_alone(self) -> None:
        async with self.opened() as (_, (a,)):
            here, there = await taken(a, 0), await taken(a, 1)
            mine, yours = a_run("mine"), a_run("yours", partition=1)
            await started(a, here, mine)
            await started(a, there, yours)
            await ended(a, here, mine)
            await ended(a, there, yours)
            assert (await a.sweep(here, 1_000, 10)).runs == 1
            await a.delete_run(here, yours.key)
            assert await a.get_run("t", "yours") == yours

    async def test_a_deleted_run_leaves_nothing_and_its_id_is_free(self) -> None:
        async with self.owned() as (a, lease):
            run, other = a_run("x"), a_run("y")
            await started(a, lease, run, other)
            batch = Append(
                epochs={0: lease.epoch}, events=Story(run).tell(b"1"), seen=[(run, "c"), (other, "c")],
                tickets=[a_ticket("a", run_id="x"), a_ticket("b", run_id="y"), a_ticket("a", run_id="x", tenant="u")],
                blobs=[(run, "sha256:1", b"1"), (run, "sha256:2", b"2"), (other, "sha256:2", b"2")],
            )  # fmt: skip
            await committed(a, batch)
            await ended(a, lease, run)
            await a.delete_run(lease, run.key)
            assert await a.get_run("t", "x") is None
            assert await datas(a, run.key) == []
            assert (await a.seen(run.key), await a.seen(other.key)) == (set(), {"c"})
            assert [(t.tenant, t.id) for t in await a.tickets(None, None, None, 10)] == [("u", "a"), ("t", "b")]
            assert (await a.blob("sha256:1"), await a.blob("sha256:2")) == (None, b"2")
            again = a_run("x")
            await started(a, lease, again)
            assert again.key not in (run.key, other.key)

    async def test_an_open_run_cannot_be_deleted(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run("x")
            await started(a, lease, run)
            try:
                await a.delete_run(lease, run.key)
            except NotFinished as e:
                assert e.run_id == "x"
            else:
                raise AssertionError("an open run was deleted")
            assert await a.get_run("t", "x") == run

    async def test_deleting_what_is_not_there_is_no_error(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            await ended(a, lease, run)
            await a.delete_run(lease, run.key)
            await a.delete_run(lease, run.key)
            await a.delete_run(lease, 999)

    async def test_keys_and_positions_are_never_used_again(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            lease = await taken(a)
            last_key = last_position = 0
            for n in range(3):
                run = a_run(f"r{n}")
                await started(a, lease, run)
                await told(a, lease, *Story(run).tell(b"1"))
                (event,) = await a.events(run.key, 0, 1)
                assert run.key > last_key
                assert event.position > last_position
                last_key, last_position = run.key, event.position
                await ended(a, lease, run)
                await a.delete_run(lease, run.key)
                await a.release([lease])
                clock.seconds += 0.001
                a, b = b, a
                lease = await taken(a, owner=f"{n}")

    async def test_events_that_a_fork_shares_stay_until_it_is_gone(self) -> None:
        async with self.owned() as (a, lease):
            origin = a_run("origin")
            await started(a, lease, origin)
            blobs: list[tuple[Keyed, str, bytes]] = [(origin, "sha256:1", b"1")]
            events = Story(origin).tell(b"1", b"2", b"3")
            await committed(a, Append(epochs={0: lease.epoch}, events=events, blobs=blobs))
            fork = await forked(a, lease, origin, "fork", 2)
            await ended(a, lease, origin)
            await a.delete_run(lease, origin.key)
            assert await a.get_run("t", "origin") is None
            assert [run.run_id for run in await a.list_runs(RunFilter())] == ["fork"]
            assert [run.run_id for run in await a.open_runs([0], 0, 10)] == ["fork"]
            assert await datas(a, fork.key) == [b"1", b"2", b"fork"]
            assert await a.blob("sha256:1") == b"1"
            assert (await a.sweep(lease, 2**60, 10)).runs == 0
            await a.delete_run(lease, origin.key)
            await started(a, lease, a_run("origin"))
            await ended(a, lease, fork)
            await a.delete_run(lease, fork.key)
            assert await datas(a, origin.key) == []
            assert await a.blob("sha256:1") is None

    async def test_the_last_of_a_line_of_forks_takes_the_others_along(self) -> None:
        async with self.owned() as (a, lease):
            origin = a_run("origin")
            await started(a, lease, origin)
            await told(a, lease, *Story(origin).tell(b"1", b"2"))
            child = await forked(a, lease, origin, "child", 2)
            sibling = await forked(a, lease, origin, "sibling", 1)
            grandchild = await forked(a, lease, child, "grandchild", 3)
            for run in (origin, child):
                await ended(a, lease, run)
                await a.delete_run(lease, run.key)
            assert await datas(a, grandchild.key) == [b"1", b"2", b"child", b"grandchild"]
            assert await datas(a, sibling.key) == [b"1", b"sibling"]
            await ended(a, lease, grandchild)
            await a.delete_run(lease, grandchild.key)
            assert await datas(a, child.key) == []
            assert await datas(a, sibling.key) == [b"1", b"sibling"]
            await ended(a, lease, sibling)
            assert (await a.sweep(lease, 1_000, 10)).runs == 1
            assert await datas(a, origin.key) == []
