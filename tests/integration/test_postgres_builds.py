"""Pinned runs on a real Postgres: nothing that is on its way is lost or overtaken while a run moves to its lane, and
workers of two builds share a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from aob.client.client import Client
from aob.client.run import Run
from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.postgres import PostgresStore, open_store
from aob.stores.postgres.options import address_of
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import LANES, Lease
from aob.testing.conformance.engine_b_pins import code_of
from aob.testing.conformance.engine_b_setting import sound
from aob.testing.conformance.engine_harness import eventually, outcome
from aob.testing.conformance.stores.builds import pending
from aob.testing.conformance.stores.setting import taken

pytestmark = pytest.mark.needs("postgres")

TTL = 60.0
SEND = """select * from aob.put_messages_1(
    '[{"place":1,"nonce":77,"other":0,"tenant":"t","run_id":"r","kind":"signal"}]', array['late'::bytea]
)"""
MOVE = "select * from aob.move_1($1, $2, $3, $4, $5, 'b1')"


class Scene:
    """A pending run in an ordinary partition, its owner, which has the only lane of a build, and SQL beside it."""

    def __init__(self, store: PostgresStore, sql: asyncpg.Connection, schema: str, key: int, lease: Lease) -> None:
        self.store = store
        self.sql = sql
        self.key = key
        self.lease = lease
        self.lane = store.lanes["b1"][0]
        self._schema = schema

    async def do(self, statement: str, *values: Any) -> list[Any]:
        return await self.sql.fetch(in_schema(statement, self._schema), *values)

    async def somebody_waits_for_a_lock(self) -> None:
        async def waits() -> bool:
            return bool(await self.sql.fetch("select 1 from pg_locks where not granted"))

        await eventually(waits, "somebody to wait for a lock")

    async def in_lane(self) -> list[bytes]:
        """What waits in the lane; nothing waits anywhere else."""
        messages = await self.store.waiting()
        assert {message.partition for message in messages} == {self.lane}
        return [message.body for message in messages]


@asynccontextmanager
async def scene(url: str) -> AsyncGenerator[Scene]:
    address = address_of(url)
    async with AsyncExitStack() as stack:
        store = await open_store(url, clock=SystemClock(), process=SystemProcess())
        stack.push_async_callback(store.close)
        sql = await asyncpg.connect(address.dsn)
        stack.push_async_callback(sql.close)
        await store.make_lanes("b1", 1)
        row = await pending(store, "r", "first")
        found = await store.get_run("t", "r")
        assert found is not None
        lease = await taken(store, found.partition, "a", TTL)
        yield Scene(store, sql, address.options.schema, row.key, lease)


async def test_a_message_that_is_being_sent_while_its_run_moves_comes_along(postgres_url: str) -> None:
    async with scene(postgres_url) as s:
        sending = s.sql.transaction()
        await sending.start()
        await s.do(SEND)
        moving = asyncio.ensure_future(s.store.move([(s.lease, s.key, s.lane)], "b1"))
        await s.somebody_waits_for_a_lock()
        assert not moving.done()
        await sending.commit()
        await moving
        assert await s.in_lane() == [b'{"n":1}', b'"first"', b"late"]


async def test_a_message_that_is_sent_while_its_run_is_moving_follows_it(postgres_url: str) -> None:
    async with scene(postgres_url) as s:
        moving = s.sql.transaction()
        await moving.start()
        ((worker, fence),) = await s.do("select id, fence from aob.worker where name = 'a'")
        moved = await s.do(MOVE, worker, fence, [s.key], [s.lease.partition], [s.lane])
        assert len(moved) == 3  # that it was done, and two messages
        other = await asyncpg.connect(address_of(postgres_url).dsn)
        try:
            sending = asyncio.ensure_future(other.execute(in_schema(SEND, address_of(postgres_url).options.schema)))
            await s.somebody_waits_for_a_lock()
            assert not sending.done()
            await moving.commit()
            await sending
        finally:
            await other.close()
        assert await s.in_lane() == [b'{"n":1}', b'"first"', b"late"]


async def test_a_worker_that_was_replaced_moves_nothing(postgres_url: str) -> None:
    async with scene(postgres_url) as s:
        ((worker, fence),) = await s.do("select id, fence from aob.worker where name = 'a'")
        ((none,),) = await s.do(MOVE, worker, fence - 1, [s.key], [s.lease.partition], [s.lane])
        assert none is None
        assert {message.partition for message in await s.store.waiting()} == {s.lease.partition}


class Fleet:
    """Workers and users of one store."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack

    async def user(self, **settings: Any) -> Client:
        client = Client(self._url, settings=load(**{"lease_ttl": 2.0, "drain_timeout": 1.0, **settings}))
        return await self._stack.enter_async_context(client)

    async def worker(self, build: str) -> tuple[Client, AsyncExitStack]:
        """A worker, and what ends it."""
        client = await self.user(build=build)
        stack = await self._stack.enter_async_context(AsyncExitStack())
        await stack.enter_async_context(client.serve(*code_of(build)))
        return client, stack


async def test_a_rolling_deploy(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet(postgres_url, stack)
        user, (_, stop_old) = await fleet.user(), await fleet.worker("b1")
        await fleet.worker("b1")

        async def orders(first: int, count: int) -> list[Run[Any]]:
            """Runs that get their signals one by one, while they begin and move."""

            async def one(n: int) -> Run[Any]:
                run: Run[Any] = await user.start("three", run_id=f"r{n}", signal=("go", 1, f"s{n}"))
                await run.signal("go", 2)
                return run

            return await asyncio.gather(*(one(n) for n in range(first, first + count)))

        old = await orders(0, 40)
        free: list[Run[Any]] = [await user.start("free", run_id=f"free{n}") for n in range(10)]
        await eventually(lambda: begun(user, old), "the old build's runs to begin")
        assert {(await run.summary()).build for run in old} == {"b1"}
        successor, _ = await fleet.worker("b2")
        await user.store.drain("b1", True)

        def drained() -> bool:
            host = successor.host()
            return host is not None and sum(p < LANES for p in host.commits.leases) == user.store.partitions

        await eventually(drained, "the old workers to leave all but their lanes")
        await stop_old.aclose()  # the other one of its build takes over
        new = await orders(40, 40)
        for run in (*old, *new):
            await run.signal("go", 3)
        for run in free:
            await run.signal("go", 0)
        assert [await outcome(run) for run in old] == [[1, 2, 3, "b1"]] * 40
        assert [await outcome(run) for run in new] == [[1, 2, 3, "b2"]] * 40
        assert [await outcome(run) for run in free] == [[0, "b2"]] * 10
        for run in (*old, *new, *free):
            await sound(run)
        assert await user.store.waiting() == []
        assert [(b.name, b.runs) for b in await user.store.builds()] == [("b1", 0), ("b2", 0)]


async def begun(client: Client, runs: list[Run[Any]]) -> bool:
    """Whether all of these are somebody's."""
    rows = [await client.store.get_run("default", run.run_id) for run in runs]
    return all(row is not None and row.status != "pending" for row in rows)
