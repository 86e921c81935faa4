"""I10 where workers share partitions: everything is exported, each partition's events in order, whoever has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.engine import outbox
from aob.settings import load
from aob.stores.memory import MemoryStore
from aob.testing.conformance.engine_b_exporters import Recorder, cursors, has_all
from aob.testing.conformance.engine_harness import eventually, outcome
from tests.conformance.test_partitions import PARTITIONS, World, naps


class Exporting(World):
    """Workers that share an exporter, as processes would that share its target."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder()

    async def join(self, **settings: object) -> Client:
        chosen = load(**{"lease_ttl": 0.6, "drain_timeout": 0.3, **settings})
        client = Client("sqlite://", settings=chosen, store=MemoryStore(SystemClock(), self.state))
        await client.__aenter__()
        self.clients.append(client)
        await client.serve(naps, exporters=[self.recorder]).__aenter__()
        return client


@asynccontextmanager
async def world() -> AsyncGenerator[Exporting]:
    world = Exporting()
    try:
        yield world
    finally:
        for client in list(world.clients):
            await world.leave(client)


async def test_nothing_is_missed_or_doubled_while_partitions_move() -> None:
    async with world() as w:
        first = await w.join()
        runs: list[aob.Run[int]] = [await first.start(naps, 30, 0.01, run_id=f"r{n}") for n in range(60)]
        second = await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        third = await w.join()
        await w.leave(first)
        runs = [await third.get(run.run_id) for run in runs]
        assert [await outcome(run, timeout=20) for run in runs] == [30] * 60
        await has_all(w.recorder, *runs)
        assert len({event.partition for event in w.recorder.events}) == PARTITIONS
        assert w.recorder.again() == 0
        await w.leave(second)
        log = await third.store.log(dict.fromkeys(range(PARTITIONS), 0), 10_000)
        assert {event.id for event in w.recorder.events} == {f"{row.partition}:{row.position}" for row in log}


async def test_the_next_owner_goes_on_from_the_cursor_of_one_that_died() -> None:
    async with world() as w:
        one, two = await w.join(), await w.join()
        await eventually(lambda: w.held() == [6, 6], "half each")
        runs: list[aob.Run[int]] = [await one.start(naps, 20, 0.02, run_id=f"r{n}") for n in range(40)]
        w.recorder.stuck = True
        await eventually(lambda: len(w.recorder.events) > 0, "something to be exported")
        await two.store.close()  # from here on it writes nothing: its process is dead
        w.clients.remove(two)
        w.recorder.stuck = False
        await eventually(lambda: w.held() == [12], "the survivor to have all")
        runs = [await one.get(run.run_id) for run in runs]
        assert [await outcome(run, timeout=20) for run in runs] == [20] * 40
        await has_all(w.recorder, *runs)

        async def caught_up() -> bool:
            return all(row.position == row.last for row in await one.store.cursors("recorder"))

        await eventually(caught_up, "the cursors to be at the end")
        assert len(await cursors(one)) == PARTITIONS
        await two.__aexit__(None, None, None)


async def test_one_that_is_dropped_while_it_is_served_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_LOOK_EVERY", 0.0)
    async with world() as w:
        client = await w.join()
        runs = [await client.start(naps, 2, 0.0, run_id=f"r{n}") for n in range(30)]
        assert [await outcome(run) for run in runs] == [2] * 30
        await has_all(w.recorder, *runs)
        before = len(w.recorder.events)
        assert await client.store.drop_exporter(w.recorder.name) == PARTITIONS
        runs.append(await client.start(naps, 2, 0.0, run_id="again"))
        await outcome(runs[-1])
        await eventually(lambda: w.recorder.again() == before, "all that was given to be given again")
        await has_all(w.recorder, *runs)
        log = await client.store.log(dict.fromkeys(range(PARTITIONS), 0), 10_000)
        last = {row.partition: row.position for row in log}
        await eventually(lambda: reaches_last(client, last), "the cursors")


async def reaches_last(client: Client, last: dict[int, int]) -> bool:
    found = {row.partition: row.position for row in await client.store.cursors()}
    return found == dict.fromkeys(range(PARTITIONS), 0) | last
