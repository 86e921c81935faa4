"""Partitions of which there can be more: for stores that are `aob.stores.facts.Divided`, beside the suite for all."""

from __future__ import annotations

import pytest

from aob.errors import NotSupported
from aob.stores.facts import Divided, Share
from aob.stores.protocol import Store
from aob.stores.rows import Append, Message, RunRow, partition_of
from aob.testing.conformance.stores.setting import TTL, StoreSetting, Story, a_message, a_run, started, taken, told


def more(store: Store) -> Divided:
    """The store as one that can have more partitions."""
    assert isinstance(store, Divided)
    return store


def moved_by(few: int, many: int) -> str:
    """A run's id that is hashed to another partition when there are more."""
    names = (f"run-{n}" for n in range(1000))
    return next(name for name in names if partition_of("t", name, few) != partition_of("t", name, many))


class PartitionTests(StoreSetting):
    """The number of partitions is raised while stores are open."""

    async def test_the_number_is_raised_and_each_process_hears_of_it_with_its_announcement(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            few = a.partitions
            await b.announce("b", TTL)
            assert b.partitions == few
            assert await more(a).raise_partitions(4 * few) == few
            assert a.partitions == 4 * few
            await b.announce("b", TTL)
            assert b.partitions == 4 * few
            assert await more(b).raise_partitions(4 * few) == 4 * few

    async def test_what_is_held_stays_held_and_the_new_ones_can_be_taken(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            few = a.partitions
            leases = await a.acquire_some("a", TTL, few)
            run, home = a_run(partition=leases[0].partition), leases[0]
            story = Story(run)
            await started(a, home, run)
            await more(b).raise_partitions(few + 8)
            await told(a, home, *story.tell(b"1"))
            await b.announce("b", TTL)
            new = await b.acquire_some("b", TTL, few + 8)
            assert sorted(lease.partition for lease in new) == list(range(few, few + 8))
            await started(b, new[-1], a_run("new", partition=few + 7))
            await a.renew(leases, TTL)

    async def test_workers_that_left_or_fell_silent_are_not_counted(self) -> None:
        async with self.opened() as (clock, (a,)):
            for name, ttl in (("leaves", TTL), ("silent", 1.0)):
                await a.announce(name, ttl)
            lease = await taken(a, owner="silent")
            assert [(w.name, w.partitions) for w in await a.announce("new", TTL)] == [
                ("leaves", 0), ("new", 0), ("silent", 1),
            ]  # fmt: skip
            await a.leave("leaves")
            clock.seconds += 2
            assert [w.name for w in await a.announce("new", TTL)] == ["new"]
            await a.renew([lease], TTL)
            assert [w.name for w in await a.announce("silent", TTL)] == ["new", "silent"]

    async def test_it_is_never_lowered(self) -> None:
        async with self.opened() as (_, (a,)):
            few = a.partitions
            await more(a).raise_partitions(few + 1)
            for less in (few, 1, 0, -1):
                with pytest.raises(NotSupported):
                    await more(a).raise_partitions(less)
            assert (await more(a).spread()).partitions == a.partitions == few + 1

    async def test_who_holds_what_is_told(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            many = a.partitions + 8
            await more(a).raise_partitions(many)
            for store, name, build, count in ((a, "a", "b1", 5), (b, "b", "", 2)):
                await store.announce(name, TTL, build)
                assert len(await store.acquire_some(name, TTL, count)) == count
            spread = await more(b).spread()
            assert (spread.partitions, spread.free, spread.lanes) == (many, many - 7, 0)
            assert spread.shares == [Share("a", "b1", 5), Share("b", "", 2)]
            clock.seconds += TTL + 1
            assert (await more(a).spread()).free == many

    async def test_lanes_are_counted_apart(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            many = a.partitions + 4
            await more(a).raise_partitions(many)
            await a.announce("a", TTL, "b1")
            await a.make_lanes("b1", 3)
            assert len(await a.acquire_some("a", TTL, 2, "b1")) == 2
            spread = await more(b).spread()
            assert (spread.partitions, spread.free, spread.lanes) == (many, many, 3)
            assert spread.shares == [Share("a", "b1", 0, 2)]
            assert await more(b).raise_partitions(many + 8) == many
            await a.announce("a", TTL, "b1")
            assert a.partitions == b.partitions == many + 8

    async def test_a_run_is_one_whatever_number_of_partitions_its_starts_were_hashed_to(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            few = a.partitions
            await more(b).raise_partitions(8 * few + 8)
            many = b.partitions
            run_id = moved_by(few, many)
            before, after = (partition_of("t", run_id, count) for count in (few, many))
            first, second = (a_start(run_id, partition) for partition in (before, after))
            assert await a.send(*first) is None
            met = await b.send(*second)
            assert met is not None and first[1].key == met.key != 0 and met.partition == first[1].partition
            lease = await taken(b, after, "b")
            again = await b.append(Append(epochs={after: lease.epoch}, starts=[a_run(run_id, partition=after)]))
            assert [there.key for _, there in again.conflicts] == [met.key]
            assert await b.send(a_message(run_id, partition=-1)) is None
            assert [m.kind for m in await b.waiting()] == ["start", "signal"]
            assert {m.partition for m in await b.waiting()} == {met.partition}

    async def test_a_sender_that_was_silent_for_long_starts_runs_where_the_new_number_says(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            few = a.partitions
            await more(b).raise_partitions(8 * few + 8)
            clock.seconds += TTL
            run_id = moved_by(few, b.partitions)
            message, run = a_start(run_id, partition_of("t", run_id, a.partitions))
            assert await a.send(message, run) is None
            found = await b.get_run("t", run_id)
            assert found is not None and found.partition == partition_of("t", run_id, b.partitions)
            assert [m.partition for m in await b.waiting()] == [found.partition]


def a_start(run_id: str, partition: int) -> tuple[Message, RunRow]:
    """What a process sends that does not own the run's partition."""
    return a_message(run_id, kind="start", partition=-1), a_run(run_id, status="pending", partition=partition)
