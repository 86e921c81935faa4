"""Workers share partitions: each takes its part, gives what is too much while its runs go on, and hands all over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

import aob
from aob import telemetry
from aob.client.client import Client
from aob.clock import SystemClock
from aob.engine.handover import hand_over
from aob.engine.partitions import NotOwner
from aob.kernel import events as ev
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.rows import Append, Appended, Lease
from aob.testing.conformance.engine_harness import eventually, outcome

PARTITIONS = 12


class SlowStore(MemoryStore):
    """Leases are renewed and released over a network."""

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        await asyncio.sleep(0.4)
        await super().renew(leases, ttl)

    async def append(self, batch: Append) -> Appended:
        await asyncio.sleep(0.005)
        return await super().append(batch)


@aob.activity
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@aob.workflow
async def naps(count: int, seconds: float) -> int:
    for _ in range(count):
        await nap(seconds)
    return count


@aob.workflow
async def has_children(count: int) -> int:
    for _ in range(count):
        await nap(0.01)
        await naps(1, 0.0)
    return count


@aob.workflow
async def told() -> list[int]:
    got: list[int] = []
    async for n in aob.signals("n", type=int):
        if n < 0:
            return got
        got.append(n)
    raise AssertionError("signals end with the run alone")


@aob.workflow
async def tells(target: str, numbers: list[int]) -> None:
    for n in numbers:
        await aob.signal_run(target, "n", n)


class World:
    """Clients of one store, as processes would have them."""

    def __init__(self, store: type[MemoryStore] = MemoryStore) -> None:
        self.state = MemoryState(PARTITIONS)
        self.store = store
        self.clients: list[Client] = []

    async def join(self, **settings: object) -> Client:
        chosen = load(**{"lease_ttl": 0.6, "drain_timeout": 0.3, **settings})
        client = Client("sqlite://", settings=chosen, store=self.store(SystemClock(), self.state))
        await client.__aenter__()
        self.clients.append(client)
        await client.serve(naps, has_children, told, tells).__aenter__()
        return client

    async def leave(self, client: Client) -> None:
        self.clients.remove(client)
        await client.__aexit__(None, None, None)
        await client.store.close()

    def held(self) -> list[int]:
        hosts = [client.host() for client in self.clients]
        return [0 if host is None else len(host.commits.leases) for host in hosts]


@asynccontextmanager
async def world(store: type[MemoryStore] = MemoryStore) -> AsyncGenerator[World]:
    world = World(store)
    try:
        yield world
    finally:
        for client in list(world.clients):
            await world.leave(client)


async def test_a_worker_that_joins_gets_its_share_and_one_that_leaves_hands_all_over() -> None:
    async with world() as w:
        first = await w.join()
        assert w.held() == [PARTITIONS]
        await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        await w.join()
        await eventually(lambda: w.held() == [4, 4, 4], "a third each")
        await w.leave(first)
        await eventually(lambda: w.held() == [6, 6], "half each again")


async def test_a_lease_that_is_handed_over_while_a_renewal_or_a_commit_is_on_its_way_is_not_lost() -> None:
    told: list[str] = []
    end = telemetry.subscribe(lambda name, fields: told.append(name))
    async with world(SlowStore) as w:
        first = await w.join(lease_ttl=3)
        runs = [await first.start(naps, 60, 0.01, run_id=f"r{n}") for n in range(30)]
        for count in range(2, 8):
            await w.join(lease_ttl=3)
            await eventually(lambda count=count: min(w.held()) >= PARTITIONS // count - 1, "shares")
        assert [await outcome(run, timeout=30) for run in runs] == [60] * 30
    end()
    assert "lease_lost" not in told


async def test_an_owner_that_has_handed_over_all_it_had_lives_on_and_gets_its_share_again() -> None:
    async with world() as w:
        host = (await w.join()).host()
        assert host is not None
        await hand_over(host, range(PARTITIONS), 1.0)
        while not host.commits.leases:
            host.commits.group().after.append(lambda: None)
            await host.commits.ack()
            await asyncio.sleep(0.001)
        assert host.failed is None
        await eventually(lambda: w.held() == [PARTITIONS], "all again")


async def test_runs_go_on_while_partitions_move() -> None:
    async with world() as w:
        first = await w.join()
        runs = [await first.start(naps, 40, 0.01, run_id=f"r{n}") for n in range(60)]
        second = await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        third = await w.join()
        assert [await outcome(run, timeout=20) for run in runs] == [40] * 60
        for run in runs:
            history = await run.history()
            assert [e.seq for e in history] == list(range(1, len(history) + 1))
            assert sum(e.kind == "step_completed" for e in history) == 40
            assert await (await second.get(run.run_id)).result() == 40
            assert await (await third.get(run.run_id)).result() == 40


async def test_an_attempt_that_takes_too_long_is_made_again_by_the_next_owner() -> None:
    async with world() as w:
        first = await w.join()
        runs = [await first.start(naps, 1, 1.0, run_id=f"r{n}") for n in range(30)]
        await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        assert [await outcome(run, timeout=20) for run in runs] == [1] * 30
        assert {e.data.get("epoch") for run in runs for e in await run.history()} == {None}


async def test_a_child_that_was_asked_for_while_its_partition_moved_is_begun_by_the_next_owner() -> None:
    async with world() as w:
        first = await w.join()
        for n in range(30):
            await first.start(naps, 10, 0.2, run_id=f"slow{n}")  # which make that the others stand still for a while
        runs = [await first.start(has_children, 20, run_id=f"r{n}") for n in range(30)]
        await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        assert [await outcome(run, timeout=20) for run in runs] == [20] * 30


async def test_nothing_is_said_of_a_run_whose_partition_was_given_up() -> None:
    async with world() as w:
        client = await w.join()
        run, host = await client.start(told, run_id="r"), client.host()
        assert host is not None
        active = await host.residents.get("default", "r")
        async with host.commits.quiet():
            lease = host.commits.give_up(active.row.partition)
        with pytest.raises(NotOwner):
            host.record(active, ev.Paused(0, "too late"))
        await host.commits.ack()
        assert await run.status() != "paused"
        await client.store.release([lease])


async def test_a_run_that_stands_still_to_be_handed_over_is_not_reached_here() -> None:
    async with world() as w:
        client = await w.join(drain_timeout=0.0)
        run, host = await client.start(naps, 1, 1.0, run_id="r"), client.host()
        assert host is not None
        stuck = asyncio.Event()

        async def busy(lease: Lease) -> None:
            await stuck.wait()

        holding = asyncio.create_task(host.commits.alone(0, busy))
        giving = asyncio.create_task(hand_over(host, list(host.commits.leases), 0.0))
        await eventually(lambda: host.residents.by_id["default", "r"].gone, "its attempts to be stopped")
        for reach in (host.residents.at_hand, host.inbox.reach):
            with pytest.raises(NotOwner):
                await reach("default", "r")
        stuck.set()
        await asyncio.gather(holding, giving)
        assert await outcome(run) == 1


async def test_what_is_asked_of_any_process_reaches_the_owner_in_order() -> None:
    async with world() as w:
        one, two = await w.join(), await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        for n in range(8):
            run = await (one, two)[n % 2].start(told, run_id=f"r{n}")
            other = await (two, one)[n % 2].get(run.run_id)
            for i in range(5):
                await run.signal("n", i)
            for i in range(5, 10):
                await other.signal("n", i)
            await other.signal("n", -1)
            assert await outcome(run) == list(range(10))
            assert await outcome(other) == list(range(10))


async def test_a_step_signals_a_run_that_another_process_owns() -> None:
    async with world() as w:
        one, _ = await w.join(), await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        for n in range(8):
            told_one = await one.start(told, run_id=f"told{n}")
            await outcome(await one.start(tells, f"told{n}", [1, 2, 3, -1], run_id=f"tells{n}"))
            assert await outcome(told_one) == [1, 2, 3]


async def test_a_worker_that_dies_is_replaced_and_its_share_goes_on() -> None:
    async with world() as w:
        one, two = await w.join(), await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        runs = [await one.start(naps, 30, 0.02, run_id=f"r{n}") for n in range(40)]
        await two.store.close()  # from here on it writes nothing: its process is dead
        w.clients.remove(two)
        await eventually(lambda: w.held() == [12], "the survivor to have all")
        for run in runs:
            assert await outcome(await one.get(run.run_id), timeout=20) == 30
        host = two.host()
        if host is not None:
            host.commits.poke()
        await two.__aexit__(None, None, None)
