"""A shared store that refuses what it usually takes, above all for want of space: all of it is done later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
import pytest

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.errors import LeaseLost, OperatorError, StoreFull, StoreLocked, StoreUnavailable
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.postgres import PostgresStore, faults, open_store
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.options import address_of
from aob.stores.protocol import Store
from aob.stores.rows import Lease
from aob.testing.conformance.engine_harness import eventually
from aob.testing.conformance.stores.setting import Story, a_run, datas, started, taken, told
from aob.testing.seeded import StoreAround
from aob.worker.worker import Worker
from tests.integration.tcp_proxy import proxy
from tests.postgres_cluster import Cluster

TTL = 30.0


async def opened(url: str) -> PostgresStore:
    return await open_store(url, clock=SystemClock(), process=SystemProcess())


LOST = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
REFUSALS = [asyncpg.DiskFullError("no space"), asyncpg.LockNotAvailableError("in the way")]


class Failing:
    """Work that fails in these ways, one after the other, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self, again: bool) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return f"done again: {again}"


def connections() -> Connections:
    return Connections(address_of("postgresql://nobody@127.0.0.1:1/nothing"), SystemClock(), SystemProcess())


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_may_have_been_done_is_found_out_whatever_is_refused_meanwhile(refusal: Exception) -> None:
    """Whoever were told that nothing was written would write it once more."""
    soon = SystemClock().monotonic() + 0.05
    assert await connections().trying(Failing(LOST, refusal, refusal)) == "done again: True"
    with pytest.raises(StoreUnavailable, match="may have been done or not"):
        await connections().trying(Failing(LOST, *[refusal] * 12), patience=0.01)
    with pytest.raises(LeaseLost):
        await connections().trying(Failing(LOST, *[refusal] * 12), leased_until=lambda: soon)
    with pytest.raises((StoreFull, StoreLocked)):  # here nothing was written
        await connections().trying(Failing(*[refusal] * 12))


@pytest.mark.needs("postgres")
async def test_a_commit_whose_answer_was_lost_counts_once_though_the_disk_is_full_then(postgres: Cluster) -> None:
    schema = postgres.fresh_name()
    async with proxy(postgres.port) as between:
        url = f"postgresql://postgres@127.0.0.1:{between.port}/postgres?schema={schema}"
        store = await opened(url)
        lease, run = await taken(store, ttl=TTL), a_run()
        await started(store, lease, run)
        postgres.sql(f"create sequence {schema}.asked")
        postgres.sql(f"""create or replace function {schema}.fence_1(p_worker bigint) returns bigint
            language plpgsql as $$ begin
                if nextval('{schema}.asked') < 3 then raise exception 'no space' using errcode = '53100'; end if;
                update {schema}.worker set fence = fence + 1 where id = p_worker;
                return (select fence from {schema}.worker where id = p_worker);
            end $$""")
        between.cut_after = lambda data: b"once" in data
        await told(store, lease, *Story(run).tell(b"once"))
        assert between.cuts == 1
        assert postgres.sql(f"select last_value from {schema}.asked") == "3"
        assert await datas(store, run.key) == [b"once"]
        await store.close()


def test_a_server_that_ends_over_a_full_disk_leaves_open_what_became_of_a_commit() -> None:
    """Its record may have been written before the space ran out behind it."""
    for severity, lost in (("ERROR", False), ("FATAL", True), ("PANIC", True)):
        error = asyncpg.DiskFullError("could not write")
        error.severity_en = severity
        assert faults.is_lost(error) == lost
    assert isinstance(faults.translated(asyncpg.DiskFullError("could not extend file"), "db"), StoreFull)


@pytest.mark.needs("postgres")
@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull])
async def test_partitions_that_could_not_be_released_at_once_reach_the_next_owner(
    postgres_url: str, error: type[OperatorError]
) -> None:
    """They stay their owner's as long as it lives, whatever it knows of them itself."""
    first, second = FailingToRelease(await opened(postgres_url), error), await opened(postgres_url)

    def held(worker: Worker) -> int:
        return 0 if worker.host is None else len(worker.host.commits.leases)

    settings = load(lease_ttl=TTL)
    async with (
        Client(postgres_url, store=cast("Store", first), settings=settings) as a,
        a.serve(nothing) as one,
        Client(postgres_url, store=second, settings=settings) as b,
        b.serve(nothing) as two,
    ):
        await eventually(lambda: held(one) == held(two) == second.partitions // 2, "half each")
    assert first.failed
    await first.close()
    await second.close()


class FailingToRelease(StoreAround):
    """A store that fails once, when partitions are released."""

    def __init__(self, inner: PostgresStore, error: type[OperatorError]) -> None:
        super().__init__(cast("Store", inner))
        self.failed = False
        self._error = error

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        if not self.failed:
            self.failed = True
            raise self._error("for a while")
        await self.inner.release(leases, clean)


@aob.workflow
async def nothing() -> None:
    """It is there to be served."""


@pytest.mark.needs("postgres")
async def test_a_commit_that_arrives_after_its_partition_was_released_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker gave it up with the lease; meanwhile somebody else has begun where the log ended."""
    store, other = await opened(postgres_url), await opened(postgres_url)
    lease, run = await taken(store, ttl=TTL), a_run()
    await started(store, lease, run)
    arrives, once = asyncio.Event(), Connections.once

    async def late(self: Connections, sql: str, *values: Any, **within: Any) -> Any:
        if self is store._connections and "append_1" in sql:  # pyright: ignore[reportPrivateUsage]
            await arrives.wait()
        return await once(self, sql, *values, **within)

    monkeypatch.setattr(Connections, "once", late)
    telling = asyncio.create_task(told(store, lease, *Story(run).tell(b"late")))
    await asyncio.sleep(0.05)
    await store.release([lease])
    assert await other.acquire(lease.partition, "other", TTL) is not None
    arrives.set()
    with pytest.raises(LeaseLost):
        await telling
    assert await datas(other, run.key) == []
    await store.close()
    await other.close()
