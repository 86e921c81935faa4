"""Workers of several builds on one store: pinned runs stay in the lanes of their build, all others move on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aob.client.client import Client
from aob.client.run import Run
from aob.clock import SystemClock
from aob.engine.pins import LANES_OF_A_BUILD
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.rows import LANES, BuildRow
from aob.testing.conformance.engine_b_exporters import Recorder, has_all
from aob.testing.conformance.engine_b_pins import code_of, is_there
from aob.testing.conformance.engine_b_setting import a_while, sound
from aob.testing.conformance.engine_harness import eventually, outcome

PARTITIONS = 12


class World:
    """Workers of one store, as processes would have them, and a client that serves nothing."""

    def __init__(self) -> None:
        self.state = MemoryState(PARTITIONS)
        self.clients: list[Client] = []

    async def open(self, **settings: Any) -> Client:
        chosen = load(**{"lease_ttl": 0.6, "drain_timeout": 0.3, **settings})
        client = Client("sqlite://", settings=chosen, store=MemoryStore(SystemClock(), self.state))
        await client.__aenter__()
        self.clients.append(client)
        return client

    async def join(self, build: str, *exporters: Recorder) -> Client:
        client = await self.open(build=build)
        await client.serve(*code_of(build), exporters=exporters).__aenter__()
        return client

    async def leave(self, client: Client) -> None:
        self.clients.remove(client)
        await client.__aexit__(None, None, None)
        await client.store.close()

    async def kill(self, client: Client) -> None:
        """From here on it writes nothing; its leases end by themselves."""
        self.clients.remove(client)
        await client.store.close()
        host = client.host()
        if host is not None:
            host.commits.poke()
        await client.__aexit__(None, None, None)

    def held(self, client: Client) -> tuple[int, int]:
        """How many ordinary partitions and lanes a worker holds."""
        host = client.host()
        held = [] if host is None else list(host.commits.leases)
        return sum(p < LANES for p in held), sum(p >= LANES for p in held)


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    world = World()
    try:
        yield world
    finally:
        for client in list(world.clients):
            await world.leave(client)


async def waiting(client: Client, name: str, count: int, prefix: str) -> list[Run[Any]]:
    """Some runs of a workflow, once they wait for their signal."""
    runs: list[Run[Any]] = [await client.start(name, run_id=f"{prefix}{n}") for n in range(count)]

    async def wait() -> bool:
        return all([await run.status() == "waiting" for run in runs])

    await eventually(wait, f"{prefix} to wait")
    return runs


async def go(client: Client, *runs: Run[Any]) -> list[Run[Any]]:
    """The runs as this client sees them, after they were sent what they wait for."""
    found = [await client.get(run.run_id) for run in runs]
    for run in found:
        await run.signal("go", 1)
    return found


async def test_old_workers_drain_their_runs_while_new_ones_take_all_else() -> None:
    async with world() as w:
        user, old = await w.open(), await w.join("b1")
        assert w.held(old) == (PARTITIONS, LANES_OF_A_BUILD)
        pinned = await waiting(user, "pinned", 10, "pinned")
        free = await waiting(user, "free", 10, "free")
        assert {(await run.summary()).build for run in pinned} == {"b1"}
        new = await w.join("b2")
        await eventually(lambda: w.held(new) == (6, LANES_OF_A_BUILD) == w.held(old), "half of what is nobody's lane")
        await user.store.drain("b1", True)
        await eventually(lambda: w.held(new) == (12, LANES_OF_A_BUILD), "the new build to have all but the old lanes")
        await eventually(lambda: w.held(old) == (0, LANES_OF_A_BUILD), "the old build to have its lanes alone")
        assert [b for b in await user.store.builds() if b.name == "b1"] == [
            BuildRow(name="b1", workers=1, runs=10, draining=True)
        ]
        more = await waiting(user, "pinned", 10, "more")
        assert {(await run.summary()).build for run in more} == {"b2"}
        assert [await outcome(run) for run in await go(user, *pinned)] == [[1, "b1"]] * 10
        assert [await outcome(run) for run in await go(user, *free)] == [[1, "b2"]] * 10
        assert [await outcome(run) for run in await go(user, *more)] == [[1, "b2"]] * 10
        for run in [*pinned, *free, *more]:
            await sound(run)
        assert await user.store.waiting() == []


async def test_runs_of_a_build_without_workers_wait_until_one_is_back_or_the_build_is_retired() -> None:
    async with world() as w:
        user, old = await w.open(), await w.join("b1")
        runs = await waiting(user, "pinned", 8, "r")
        new = await w.join("b2")
        await w.kill(old)
        await eventually(lambda: w.held(new) == (12, LANES_OF_A_BUILD), "the new build to have all but the old lanes")
        some = await go(user, *runs[:4])
        await a_while(1.0)
        assert {await run.status() for run in some} == {"waiting"}
        assert len(await user.store.waiting()) == 4
        assert (await user.store.builds())[0] == BuildRow(name="b1", runs=8)
        back = await w.join("b1")
        assert [await outcome(run) for run in some] == [[1, "b1"]] * 4
        await w.leave(back)
        rest = await go(user, *runs[4:])
        await user.store.retire("b1")
        assert [await outcome(run) for run in rest] == [[1, "b2"]] * 4
        assert w.held(new) == (12, 2 * LANES_OF_A_BUILD)
        for run in runs:
            await sound(run)


async def test_workers_of_a_build_share_its_lanes_and_pass_on_what_is_not_theirs() -> None:
    async with world() as w:
        user, one, two, other = await w.open(), await w.join("b1"), await w.join("b1"), await w.join("b2")
        await eventually(lambda: [w.held(c) for c in (one, two, other)] == [(4, 8), (4, 8), (4, 16)], "fair shares")
        runs: list[Run[Any]] = []
        for n in range(30):
            by = (user, one, two, other)[n % 4]
            runs.append(await by.start("three", run_id=f"r{n}", signal=("go", 1, "s")))
            await runs[-1].signal("go", 2)
            await (await (other, two, one, user)[n % 4].get(f"r{n}")).signal("go", 3)
        for run in runs:
            assert (await outcome(run))[:3] == [1, 2, 3]
            row = await user.store.get_run("default", run.run_id)
            assert row is not None
            assert row.partition in user.store.lanes[(await outcome(run))[3]]
            assert row.build == (await outcome(run))[3]
            await sound(run)
        assert {(await outcome(run))[3] for run in runs} == {"b1", "b2"}
        assert await user.store.waiting() == []


async def test_exporters_get_what_happens_in_lanes_and_go_on_when_these_change_hands() -> None:
    async with world() as w:
        recorder = Recorder()
        one = await w.join("b1", recorder)
        runs = await waiting(one, "pinned", 5, "r")
        await w.join("b2", recorder)
        await w.leave(one)
        await (await w.open()).store.retire("b1")
        found = await go(w.clients[-1], *runs)
        assert [await outcome(run) for run in found] == [[1, "b2"]] * 5
        await has_all(recorder, *found)
        assert min(event.partition for event in recorder.events) >= LANES


async def test_children_cross_into_lanes_and_back() -> None:
    async with world() as w:
        user, one, two = await w.open(), await w.join("b1"), await w.join("b2")
        await eventually(lambda: [w.held(one), w.held(two)] == [(6, 16), (6, 16)], "fair shares")
        for n in range(6):
            child = f"child{n}"
            run: Run[Any] = await user.start("below", child, run_id=f"below{n}", signal=("begin", 0, "s"))
            await eventually(lambda child=child: is_there(user, child), "the child")
            row = await user.store.get_run("default", child)
            assert row is not None
            assert row.partition >= LANES
            assert row.parent == run.run_id
            await (await user.get(child)).signal("go", n)
            got = await outcome(run)
            assert got[2] == [n, row.build]
            await sound(run)
            await sound(await user.get(child))
