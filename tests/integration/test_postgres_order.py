"""What depends on the order in which transactions of several processes come to be seen, each held open by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.postgres import PostgresStore, open_store
from aob.stores.postgres.options import address_of
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import Append
from aob.testing.conformance.engine_harness import eventually
from aob.testing.conformance.stores.setting import a_message, a_run, committed, started, taken

pytestmark = pytest.mark.needs("postgres")

TTL = 60.0
SEND = """
insert into aob.inbox (nonce, partition, tenant, run_id, kind, body) values (1, 0, 't', 'late', 'signal', ''::bytea)
"""
END = "end of news"


@asynccontextmanager
async def opened(url: str, count: int) -> AsyncGenerator[list[PostgresStore]]:
    stores = [await open_store(url, clock=SystemClock(), process=SystemProcess()) for _ in range(count)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


class Wrong(SystemClock):
    """A host's clock that is wrong by some hours."""

    def __init__(self, hours: int) -> None:
        self._wrong = hours * 3_600_000_000

    def now_us(self) -> int:
        return super().now_us() + self._wrong


class ByHand:
    """A connection beside the stores."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self._address = address_of(url)
        self._connection = connection

    async def sql(self, text: str, *values: object) -> list[asyncpg.Record]:
        return await self._connection.fetch(in_schema(text, self._address.options.schema), *values)

    async def waits(self) -> bool:
        """Whether a statement of a store waits for a lock that this connection holds."""
        blocked = "select 1 from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))"
        return bool(await self.sql(blocked))


@asynccontextmanager
async def by_hand(url: str) -> AsyncGenerator[ByHand]:
    connection = await asyncpg.connect(address_of(url).dsn)
    try:
        yield ByHand(url, connection)
    finally:
        await connection.close()


async def test_a_message_whose_transaction_ends_late_is_not_passed_over(postgres_url: str) -> None:
    async with opened(postgres_url, 2) as (owner, sender), by_hand(postgres_url) as hand:
        lease = await taken(owner, ttl=TTL)
        await hand.sql("begin")
        await hand.sql(SEND)
        await sender.send(a_message("early"))
        (early,) = (await owner.append(Append(epochs={0: lease.epoch}))).inbox
        assert early.run_id == "early"
        await committed(owner, Append(epochs={0: lease.epoch}, takes=[early.id]))
        await committed(owner, Append(epochs={0: lease.epoch}, starts=[a_run()]))
        await hand.sql("commit")
        (late,) = (await owner.append(Append(epochs={0: lease.epoch}))).inbox
        assert late.run_id == "late" and late.id < early.id


async def test_who_renews_while_another_would_take_over_keeps_what_it_has(postgres_url: str) -> None:
    async with opened(postgres_url, 2) as (a, b), by_hand(postgres_url) as hand:
        lease = await taken(a, owner="a", ttl=TTL)
        await hand.sql("update aob.worker set expires = 0")
        await hand.sql("begin")
        renew = "select aob.renew_1(id, array[0], array[$1::integer], 60000000) from aob.worker where name = 'a'"
        ((renewed,),) = await hand.sql(renew, lease.epoch)
        assert renewed is not None
        taking = asyncio.create_task(b.acquire(0, "b", TTL))
        await eventually(hand.waits, "the other to wait")
        await hand.sql("commit")
        assert await taking is None
        await started(a, lease, a_run())


async def test_what_others_wait_for_is_told_in_the_transaction_that_has_it(postgres_url: str) -> None:
    """Without LISTEN each would still look now and then; here nobody does."""
    async with opened(postgres_url, 2) as (a, b):
        lease = await taken(a, owner="a", ttl=TTL)
        await a.announce("a", TTL)
        assert "m 0" in await told_of(postgres_url, lambda: b.send(a_message()))
        assert "m 1" in await told_of(postgres_url, lambda: b.send(a_message("elsewhere", partition=1)))
        assert "f " in await told_of(postgres_url, lambda: a.leave("a"))
        assert "f " in await told_of(postgres_url, lambda: a.release([lease]))


async def test_a_hosts_clock_that_is_wrong_by_hours_changes_no_keys_and_no_leases(postgres_url: str) -> None:
    """A list shows the newest run first by its key, which its starter draws from the time."""
    stores = [await open_store(postgres_url, clock=Wrong(hours), process=SystemProcess()) for hours in (3, -3, 0)]
    try:
        lease = await taken(stores[0], owner="a", ttl=TTL)
        runs = [a_run(f"r{n}", status="pending") for n in range(3)]
        for store, run in zip(stores, runs, strict=True):
            assert await store.send(a_message(run.run_id, "start"), run) is None
        drawn = [run.key >> 10 for run in runs]
        assert max(drawn) - min(drawn) < 3_600_000_000
        assert [await store.acquire(0, "b", TTL) for store in stores[1:]] == [None, None]
        await stores[0].renew([lease], TTL)
    finally:
        for store in stores:
            await store.close()


async def told_of(url: str, work: Callable[[], Awaitable[object]]) -> list[str]:
    """The news of some work, without who tells it. News comes in the order of commits: what comes before the end that
    is told afterwards is all of it."""
    listening = await asyncpg.connect(address_of(url).dsn)
    try:
        news: asyncio.Queue[str] = asyncio.Queue()
        channel = address_of(url).channel
        await listening.add_listener(channel, lambda *heard: news.put_nowait(str(heard[-1])))
        await work()
        await listening.execute("select pg_notify($1, $2)", channel, END)
        lines: list[str] = []
        while (line := await news.get()) != END:
            what, _, about = line.split(" ", 2)
            lines.append(f"{what} {about}")
        return lines
    finally:
        await listening.close()
