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
from aob.errors import LeaseLost, OperatorError, StoreLocked, StoreUnavailable
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.testing.conformance.engine_b_exporters import Recorder, has_all
from aob.testing.conformance.engine_harness import eventually, outcome
from aob.testing.seeded import StoreAround
from aob.worker.worker import Worker

PARTITIONS = 4
TTL = 0.5


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
        return method if name not in ("announce", "open_runs", "renew", "cursors") else self._called(name, method)

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


async def test_a_worker_that_could_not_read_what_it_took_over_tries_again() -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        store.fails["open_runs"] = [StoreLocked("held up for too long")]
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


async def test_a_worker_outlives_a_store_that_is_away_for_longer_than_its_lease() -> None:
    state = MemoryState(PARTITIONS)
    async with left_behind(state) as run:
        store = Faulty(state)
        async with client_of(store) as other, other.serve(counts) as worker:
            store.fails["announce"] = [StoreUnavailable("cannot be reached") for _ in range(5)]
            await eventually(lambda: not store.fails["announce"], "the store to be asked again and again")
            asked = store.asked["announce"]
            await eventually(lambda: store.asked["announce"] > asked, "it to be asked when it is there again")
            await finishes(run, worker)


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
