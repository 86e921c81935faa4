"""A worker that was taken for dead learns of it whichever way it comes back, and what it is handed is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from aob.clock import SystemClock
from aob.errors import LeaseLost
from aob.process import SystemProcess
from aob.stores.postgres import PostgresStore, open_store
from aob.stores.postgres.options import address_of
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import Append, Lease, Message, RunRow
from aob.testing.conformance.stores.setting import Story, a_message, a_run, committed, datas, started, taken, told
from tests.chaos.proxy import proxy
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.needs("postgres")

TTL = 60.0


class Replaced:
    """Worker `a` held partitions 0 and 1; worker `b` took 0 from it, though by a's own clock its lease lasts."""

    def __init__(
        self, a: PostgresStore, b: PostgresStore, leases: list[Lease], run: RunRow, sql: asyncpg.Connection
    ) -> None:
        self.a, self.b = a, b
        self.of_0, self.of_1 = leases
        self.run = run
        self._sql = sql
        self._late = Story(run)

    async def cut(self) -> None:
        """End the connections of both."""
        await self._sql.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'aob' and datname = current_database()"
        )

    async def refused(self) -> None:
        """What `a` writes now to partition 0 is refused, and is not there."""
        with pytest.raises(LeaseLost):
            await told(self.a, self.of_0, *self._late.tell(b"late"))
        assert await datas(self.b, self.run.key) == []


@asynccontextmanager
async def replaced(url: str) -> AsyncGenerator[Replaced]:
    address = address_of(url)
    schema = f'"{address.options.schema}"'
    a, b = await opened(url), await opened(url)
    sql = await asyncpg.connect(address.dsn)
    try:
        leases, run = [await taken(a, partition, "a", TTL) for partition in (0, 1)], a_run()
        await started(a, leases[0], run)
        await sql.execute(f"update {schema}.worker set expires = 0")
        await taken(b, 0, "b", TTL)
        yield Replaced(a, b, leases, run, sql)
    finally:
        await sql.close()
        await a.close()
        await b.close()


async def opened(url: str) -> PostgresStore:
    return await open_store(url, clock=SystemClock(), process=SystemProcess())


async def test_who_was_replaced_is_refused(postgres_url: str) -> None:
    async with replaced(postgres_url) as scene:
        await scene.refused()


@pytest.mark.parametrize("what", ["commits nothing", "renews", "sweeps", "deletes", "trims"])
async def test_whatever_it_does_first_is_refused(postgres_url: str, what: str) -> None:
    async with replaced(postgres_url) as scene:
        a, lease = scene.a, scene.of_0
        does: dict[str, Callable[[], Awaitable[object]]] = {
            "commits nothing": lambda: a.append(Append(epochs={0: lease.epoch})),
            "renews": lambda: a.renew([lease], TTL),
            "sweeps": lambda: a.sweep(lease, 0, 10),
            "deletes": lambda: a.delete_run(lease, scene.run.key),
            "trims": lambda: a.trim(lease, [], 10),
        }
        with pytest.raises(LeaseLost):
            await does[what]()


async def test_also_when_it_connects_anew(postgres: Cluster, postgres_url: str) -> None:
    url = postgres.fresh(postgres.fresh_name())  # a database of its own: its connections are cut
    async with replaced(url) as scene:
        await scene.cut()
        await scene.refused()
    postgres.drop(url.rpartition("/")[2])


async def test_also_when_it_takes_another_partition(postgres_url: str) -> None:
    async with replaced(postgres_url) as scene:
        with suppress(LeaseLost):
            await scene.a.acquire(2, "a", TTL)
        await scene.refused()


async def test_also_when_it_deletes_something_of_what_it_still_has(postgres_url: str) -> None:
    async with replaced(postgres_url) as scene:
        with suppress(LeaseLost):
            await scene.a.sweep(scene.of_1, 0, 10)
        await scene.refused()


async def test_also_when_it_commits_to_what_it_still_has(postgres_url: str) -> None:
    async with replaced(postgres_url) as scene:
        with suppress(LeaseLost):
            await started(scene.a, scene.of_1, a_run("other", partition=1))
        await scene.refused()


# --- what is handed out -----------------------------------------------------------------------------------------------


async def test_messages_of_a_partition_whose_lease_is_on_its_way_wait_for_it(postgres_url: str) -> None:
    """The database has given it, and the answer has not come: nobody here would know what to do with them."""
    address = address_of(postgres_url)
    store = await opened(postgres_url)
    sql = await asyncpg.connect(address.dsn)
    try:
        zero = await taken(store, 0, "a", TTL)
        given = in_schema("select aob.acquire_1('a', 60000000, array[0], array[1], 1)", address.options.schema)
        await sql.execute(given)
        await store.send(message_to(1, "one"))
        await committed(store, Append(epochs={0: zero.epoch}))
        await store.send(message_to(0, "zero"))
        first = await store.append(Append(epochs={0: zero.epoch}))
        assert [m.run_id for m in first.inbox] == ["zero"]
        one = await taken(store, 1, "a", TTL)
        second = await store.append(Append(epochs={0: zero.epoch, 1: one.epoch}, takes=[first.inbox[0].id]))
        assert [m.run_id for m in second.inbox] == ["one"]
    finally:
        await sql.close()
        await store.close()


def message_to(partition: int, run_id: str) -> Message:
    return a_message(run_id, partition=partition)


# --- when nothing is heard any more -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "&prepared=off"])
@pytest.mark.parametrize("what", ["append", "renew"])
async def test_who_hears_nothing_gives_up_when_its_lease_is_over(
    postgres: Cluster, postgres_url: str, what: str, more: str
) -> None:
    """The connection stands, and nothing comes through: that may last for minutes."""
    async with proxy(postgres.port) as between:
        store = await opened(postgres_url.replace(f":{postgres.port}/", f":{between.port}/") + more)
        lease, run = await taken(store, 0, "a", 0.5), a_run()
        await started(store, lease, run)
        between.fall_silent()
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(20):
                if what == "append":
                    await told(store, lease, *Story(run).tell(b"late"))
                else:
                    await store.renew([lease], 0.5)
        between.speak()
        await store.close()
