"""The number of partitions is raised while workers run and runs start: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

import aob
from aob.client.client import Client
from aob.errors import StoreUnavailable
from aob.settings import load
from aob.stores.facts import Divided
from aob.stores.postgres.options import address_of
from aob.stores.rows import RunFilter, partition_of
from aob.testing.conformance.engine_harness import eventually, outcome
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.needs("postgres")

FEW, MANY = 4, 16
SIGNALS = 4


@aob.activity
async def noted(number: int) -> int:
    return number


@aob.workflow
async def collects(count: int) -> list[int]:
    got: list[int] = []
    async for n in aob.signals("n", type=int):
        got.append(await noted(n))
        if len(got) == count:
            return got
    raise AssertionError("signals end with the run alone")


@asynccontextmanager
async def fleet(url: str, partitions: int) -> AsyncGenerator[tuple[Client, Client, Client]]:
    """Two workers and a process that only sends, on a store with few partitions."""
    async with AsyncExitStack() as stack:
        async with client_of(url):
            await only(url, partitions)
        clients = [await stack.enter_async_context(client_of(url)) for _ in range(3)]
        for client in clients[:2]:
            await stack.enter_async_context(client.serve(collects))
        one, two, outside = clients
        yield one, two, outside


def client_of(url: str) -> Client:
    return aob.connect(url, settings=load(lease_ttl=3.0, drain_timeout=1.0))


async def only(url: str, partitions: int) -> None:
    address = address_of(url)
    connection = await asyncpg.connect(address.dsn)
    try:
        await connection.execute(f'delete from "{address.options.schema}".partition where id >= $1', partitions)
    finally:
        await connection.close()


def held(*clients: Client) -> list[int]:
    hosts = [client.host() for client in clients]
    return [0 if host is None else len(host.commits.leases) for host in hosts]


async def load_of(client: Client, name: str, count: int, raised: asyncio.Event, ready: asyncio.Event) -> None:
    """Start runs and signal each, the last half when the number has been raised."""
    for n in range(count):
        if n == count // 2:
            ready.set()
            await raised.wait()
        run = await client.start(collects, SIGNALS, run_id=f"{name}-{n}")
        for i in range(SIGNALS):
            await run.signal("n", i)


async def partition(client: Client, run_id: str) -> int:
    row = await client.store.get_run("default", run_id)
    assert row is not None
    return row.partition


async def test_nothing_is_lost_or_comes_twice_while_the_number_is_raised(postgres_url: str) -> None:
    async with fleet(postgres_url, FEW) as (one, two, outside):
        await eventually(lambda: held(one, two) == [2, 2], "half each")
        raised, names = asyncio.Event(), ("one", "two", "outside")
        ready = [asyncio.Event() for _ in names]
        loads = [
            asyncio.create_task(load_of(client, name, 20, raised, at))
            for client, name, at in zip((one, two, outside), names, ready, strict=True)
        ]
        for at in ready:
            await at.wait()
        assert isinstance(outside.store, Divided)
        assert await outside.store.raise_partitions(MANY) == FEW
        raised.set()
        await asyncio.gather(*loads)
        await eventually(lambda: held(one, two) == [8, 8], "the new ones shared")
        for name in names:
            for n in range(20):
                run = await outside.get(f"{name}-{n}")
                assert sorted(await outcome(run)) == list(range(SIGNALS))
                found = [e.kind for e in await run.history()]
                assert [found.count(k) for k in ("run_started", "signal_received", "step_completed")] == [1, 4, 4]
        assert len(await outside.store.list_runs(RunFilter(limit=1000))) == 60
        homes = [await partition(one, f"outside-{n}") for n in range(20)]
        assert max(homes[:10]) < FEW <= max(homes[10:])
        assert await outside.store.waiting() == []
        assert await outside.store.check() == []  # pyright: ignore[reportAttributeAccessIssue]


async def test_all_start_runs_in_the_new_partitions_and_one_id_is_one_run(postgres_url: str) -> None:
    async with fleet(postgres_url, FEW) as (one, two, outside):
        await eventually(lambda: held(one, two) == [2, 2], "half each")
        ids = [f"r{n}" for n in range(24)]
        before = [await outside.start(collects, SIGNALS, run_id=run_id) for run_id in ids]
        assert isinstance(one.store, Divided)
        await one.store.raise_partitions(MANY)
        await eventually(lambda: held(one, two) == [8, 8], "the new ones shared")
        for client in (one, two, outside):
            for run in before:
                assert (await client.start(collects, SIGNALS, run_id=run.run_id)).run_id == run.run_id
        homes = [await partition(one, run_id) for run_id in ids]
        assert homes == [partition_of("default", run_id, FEW) for run_id in ids]
        for n, run_id in enumerate(ids):
            for i in range(SIGNALS):
                await (await (one, two, outside)[(n + i) % 3].get(run_id)).signal("n", i)
        assert [sorted(await outcome(run)) for run in before] == [list(range(SIGNALS))] * len(ids)
        await asyncio.sleep(1.0)  # so long a process may go by the number that it knows
        for name, client in (("a", one), ("b", two), ("c", outside)):
            runs = [await client.start(collects, SIGNALS, run_id=f"{name}{n}") for n in range(24)]
            homes = [await partition(one, run.run_id) for run in runs]
            assert homes == [partition_of("default", run.run_id, MANY) for run in runs]


async def test_a_store_with_one_partition_gets_more(postgres_url: str) -> None:
    async with fleet(postgres_url, 1) as (one, two, outside):
        await eventually(lambda: sum(held(one, two)) == 1, "one of them to own it")
        assert isinstance(outside.store, Divided)
        await outside.store.raise_partitions(2)
        await eventually(lambda: held(one, two) == [1, 1], "one each")


async def test_only_the_schemas_owner_may_raise_it(postgres: Cluster, postgres_url: str) -> None:
    role = postgres.fresh_name().replace("fresh", "role")
    schema = address_of(postgres_url).options.schema
    async with client_of(postgres_url):
        postgres.sql(
            f"create role {role} login; grant usage on schema {schema} to {role}; "
            f"grant select, update on all tables in schema {schema} to {role}"
        )
    async with client_of(postgres_url.replace("postgres@", f"{role}@")) as client:
        assert isinstance(client.store, Divided)
        with pytest.raises(StoreUnavailable, match="aob db partitions 512"):
            await client.store.raise_partitions(512)
        assert (await client.store.spread()).partitions == 256
