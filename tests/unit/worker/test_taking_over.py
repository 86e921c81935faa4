"""Taking over goes wrong, takes long, or is not possible for a while: the runs go on all the same, later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.errors import LeaseLost, OperatorError, StoreFull, StoreLocked, StoreUnavailable
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.testing.conformance.engine_b_exporters import Recorder, has_all
from aob.testing.conformance.engine_harness import eventually, outcome
from aob.testing.seeded import StoreAround
from aob.worker.worker import Worker

PARTITIONS = 4
TTL = 0.5
_FAULTY = ("announce", "acquire_some", "cursors", "open_runs", "release", "renew")


class Gate:
    """What the step waits for."""

    begun = asyncio.Event()
    open = asyncio.Event()


@aob.activity
async def one() -> int:
    Gate.begun.set()
    await Gate.open.wait()
    return 1


@aob.workflow
async def counts() -> int:
    return await one()


class Faulty(StoreAround):
    """A store that fails or dawdles when it is told to."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(cast("Store", MemoryStore(SystemClock(), state)))
        self.fails: dict[str, list[OperatorError]] = {}
        self.dawdles: dict[str, float] = {}
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        return self._called(name, method) if name in _FAULTY else method

    def _called(self, name: str, method: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.asked[name] += 1
            await asyncio.sleep(self.dawdles.get(name, 0))
            if self.fails.get(name):
                raise self.fails[name].pop()
            return await method(*args, **kwargs)

        return call


@asynccontextmanager
async def client_of(store: Faulty) -> AsyncGenerator[Client]:
    settings = load(lease_ttl=TTL, drain_timeout=0.1)
    async with Client("sqlite://", settings=settings, store=cast("Store", store)) as client:
        yield client
    await store.close()


@asynccontextmanager
async def left_behind(state: MemoryState) -> AsyncGenerator[aob.Run[int]]:
    """A run in the middle of a step, and no worker."""
    Gate.begun, Gate.open = asyncio.Event(), asyncio.Event()
    async with client_of(Faulty(state)) as client:
        async with client.serve(counts):
            run = await client.start(counts, run_id="r")
            await Gate.begun.wait()
        Gate.open.set()
        yield run


async def finishes(run: aob.Run[int], worker: Worker) -> None:
    assert await outcome(run) == 1
    assert worker.failed is None


@pytest.mark.parametrize("error", [StoreLocked, StoreFull])
async def test_a_worker_that_could_not_read_what_it_took_over_tries_again(error: type[OperatorError]) -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        store.fails["open_runs"] = [error("for a while")]
        async with client_of(store) as other, other.serve(counts) as worker:
            await finishes(run, worker)
            assert store.asked["open_runs"] > 1


async def test_a_worker_that_could_not_read_how_far_its_exporter_has_come_tries_again() -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store, recorder = Faulty(state), Recorder()
        store.fails["cursors"] = [StoreUnavailable("cannot be read")]
        async with client_of(store) as other, other.serve(counts, exporters=[recorder]) as worker:
            await finishes(run, worker)
            await has_all(recorder, run)


async def test_leases_are_renewed_while_a_worker_takes_over() -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        store.dawdles["open_runs"] = TTL
        async with client_of(store) as other, other.serve(counts) as worker:
            assert store.asked["renew"] > 0
            store.dawdles.clear()
            await finishes(run, worker)


@pytest.mark.parametrize("error", [StoreUnavailable, StoreLocked, StoreFull])
async def test_a_worker_outlives_a_store_that_refuses_it_for_longer_than_its_lease(error: type[OperatorError]) -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        async with client_of(store) as other, other.serve(counts) as worker:
            for what, times in (("announce", 5), ("renew", 6)):
                store.fails[what] = [error("for a while") for _ in range(times)]
                await eventually(lambda what=what: not store.fails[what], "the store to be asked again and again")
                asked = store.asked[what]
                await eventually(lambda what=what, n=asked: store.asked[what] > n, "it to be asked when it is there")
            await finishes(run, worker)


@pytest.mark.parametrize("what", ["announce", "acquire_some"])
async def test_a_worker_that_begins_while_the_store_is_full_stands_by(what: str) -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        store.fails[what] = [StoreFull("no space left") for _ in range(3)]
        async with client_of(store) as other, other.serve(counts) as worker:
            await finishes(run, worker)


@pytest.mark.parametrize("error", [StoreUnavailable, StoreLocked, StoreFull])
async def test_partitions_that_could_not_be_released_at_once_reach_the_next_owner(error: type[OperatorError]) -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        async with client_of(store) as one, one.serve(counts) as first:
            store.fails["release"] = [error("for a while")]
            async with client_of(Faulty(state)) as two, two.serve(counts) as second:
                await eventually(lambda: _held(first) == _held(second) == PARTITIONS // 2, "half each")
                await finishes(run, second)
            assert first.failed is None


def _held(worker: Worker) -> int:
    return 0 if worker.host is None else len(worker.host.commits.leases)


async def test_a_worker_that_is_given_its_own_partitions_again_begins_anew_with_them() -> None:
    """They had run out, and it had not noticed."""
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        async with client_of(store) as other, other.serve(counts) as worker:
            store.dawdles["renew"] = 10 * TTL
            host = worker.host
            assert host is not None
            await eventually(lambda: store.asked["renew"] > 0, "a renewal to hang")
            await asyncio.sleep(TTL)
            leases = await other.store.acquire_some(other.process.name, TTL, PARTITIONS)
            store.dawdles.clear()
            with pytest.raises(LeaseLost):
                await host.take(leases)
            await eventually(lambda: worker.host not in (None, host), "it to begin anew")
            await finishes(run, worker)
