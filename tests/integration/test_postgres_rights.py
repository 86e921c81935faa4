"""The Postgres store under a login with few rights, on servers that lack something, and before schemas of other
versions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

import aob
from aob.clock import SystemClock
from aob.errors import BadUrl, StoreTooNew, StoreUnavailable
from aob.process import SystemProcess
from aob.stores.postgres import PostgresStore, open_store
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.migrate import migrate, migrations
from aob.stores.postgres.options import address_of
from aob.stores.rows import Append
from aob.testing.conformance.stores.builds import pending
from aob.testing.conformance.stores.setting import Story, a_message, a_run, committed, ended, started, taken, told
from aob.testing.conformance.stores.trimming import a_pass, cut
from tests.postgres_cluster import Cluster

GRANTS = """
grant usage on schema {schema} to {role};
grant select, insert, update, delete on all tables in schema {schema} to {role};
revoke insert, update, delete on {schema}.migration from {role};
revoke insert, delete on {schema}.partition from {role};
revoke update on {schema}.event from {role};
"""


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[PostgresStore]:
    store = await open_store(url, clock=SystemClock(), process=SystemProcess())
    try:
        yield store
    finally:
        await store.close()


async def sql(cluster: Cluster, text: str) -> Any:
    connection = await asyncpg.connect(cluster.url())
    try:
        return await connection.execute(text)
    finally:
        await connection.close()


@pytest.fixture
async def role(postgres: Cluster) -> str:
    """A login that may do nothing."""
    name = postgres.fresh_name().replace("fresh", "role")
    await sql(postgres, f"create role {name} login; revoke create on database postgres from public")
    return name


def as_role(postgres: Cluster, url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@")


@pytest.mark.needs("postgres")
class TestRights:
    async def test_the_documented_rights_are_enough(self, postgres: Cluster, postgres_url: str, role: str) -> None:
        schema = address_of(postgres_url).options.schema
        async with opened(postgres_url):
            await sql(postgres, GRANTS.format(schema=schema, role=role))
        async with opened(as_role(postgres, postgres_url, role)) as store:
            assert (await store.facts()).lacks == ()
            lease, run = await taken(store, owner="w"), a_run()
            await started(store, lease, run)
            await told(store, lease, *Story(run).tell(b"1"))
            await store.send(a_message())
            message = (await store.append(Append(epochs={0: lease.epoch}))).inbox[0]
            await committed(store, Append(
                epochs={0: lease.epoch}, takes=[message.id], seen=[(run, "c")], blobs=[(run, "sha256:1", b"1")],
                replies=[("q", b"1", 2**60)], sends=[a_message(partition=1)],
            ))  # fmt: skip
            assert await store.take_reply("q") == b"1"
            await a_pass(store, lease, run, "2", "3", "4")
            assert await store.trim(lease, [cut(run, 4)], 10) == 3
            await ended(store, lease, run)
            await store.announce("w", 5.0)
            await store.renew([lease], 5.0)
            await store.delete_run(lease, run.key)
            await store.make_lanes("b1", 2)
            row = await pending(store, "pinned", "1")
            found = await store.run_by_key(row.key)
            assert found is not None
            home = await taken(store, found.partition, "w") if found.partition else lease
            await store.move([(home, row.key, store.lanes["b1"][0])], "b1")
            assert {m.partition for m in await store.waiting()} == {store.lanes["b1"][0], 1}
            await store.drain("b1", True)
            await store.retire("b1")
            assert [(b.name, b.runs, b.retired) for b in await store.builds()] == [("b1", 1, True)]
            await store.release([lease])
            assert await store.check() == []

    async def test_what_is_missing_is_listed(self, postgres: Cluster, postgres_url: str, role: str) -> None:
        schema, mine = address_of(postgres_url).options.schema, as_role(postgres, postgres_url, role)
        with pytest.raises(StoreUnavailable, match=f"there is no schema {schema}, and {role} may not make it"):
            await open_store(mine, clock=SystemClock(), process=SystemProcess())
        async with opened(postgres_url):
            pass
        with pytest.raises(StoreUnavailable, match=f"grant usage on schema {schema} to {role}"):
            await open_store(mine, clock=SystemClock(), process=SystemProcess())
        await sql(postgres, GRANTS.format(schema=schema, role=role))
        await sql(postgres, f"revoke insert, delete on {schema}.event from {role}")
        async with opened(mine) as store:
            assert (await store.facts()).lacks == (
                f"{role} lacks rights: grant delete, insert on {schema}.event to {role}",
            )

    async def test_a_login_that_may_lose_commits_is_refused(
        self, postgres: Cluster, postgres_url: str, role: str
    ) -> None:
        async with opened(postgres_url):
            await sql(postgres, GRANTS.format(schema=address_of(postgres_url).options.schema, role=role))
        await sql(postgres, f"alter role {role} set synchronous_commit = off")
        mine = as_role(postgres, postgres_url, role)
        with pytest.raises(StoreUnavailable, match="synchronous_commit is off"):
            await open_store(mine, clock=SystemClock(), process=SystemProcess())
        async with opened(f"{mine}&durable=off") as store:
            assert "synchronous_commit is off" in (await store.facts()).lacks[0]


@pytest.mark.needs("postgres")
class TestSchema:
    async def test_a_newer_schema_is_refused(self, postgres: Cluster, postgres_url: str) -> None:
        schema = address_of(postgres_url).options.schema
        async with opened(postgres_url) as store:
            await sql(postgres, f"insert into {schema}.migration (number) values (999)")
            await store.acquire_some("w", 5.0, 3)  # who has it open goes on
        with pytest.raises(StoreTooNew, match="schema 999"):
            await open_store(postgres_url, clock=SystemClock(), process=SystemProcess())

    @pytest.mark.parametrize("what", ["table {schema}.ticket", "function {schema}.leave_1"])
    async def test_what_was_dropped_is_listed(self, postgres: Cluster, postgres_url: str, what: str) -> None:
        dropped = what.format(schema=address_of(postgres_url).options.schema)
        async with opened(postgres_url) as store:
            assert (await store.facts()).lacks == ()
            await sql(postgres, f"drop {dropped}")
            assert (await store.facts()).lacks == (
                f"somebody has dropped the {dropped}: restore the schema from a copy",
            )

    async def test_somebody_elses_schema_is_left_alone(self, postgres: Cluster, postgres_url: str) -> None:
        schema = address_of(postgres_url).options.schema
        await sql(postgres, f"create schema {schema}; create table {schema}.run (id integer)")
        with pytest.raises(StoreUnavailable, match=r"holds what is not aob's \(run\): name another one"):
            await open_store(postgres_url, clock=SystemClock(), process=SystemProcess())

    async def test_a_migration_is_applied_whole_or_not_at_all(self, postgres_url: str) -> None:
        connections = Connections(address_of(postgres_url), SystemClock(), SystemProcess())
        await connections.open()
        following = max(migrations()) + 1
        broken = {**migrations(), following: "create table aob.extra (id integer); select 1 / 0"}
        with pytest.raises(StoreUnavailable):
            await migrate(connections, broken)
        assert await migrate(connections) == len(migrations())
        assert await migrate(connections) == 0
        assert await migrate(connections, {**migrations(), following: "create table aob.extra (id integer)"}) == 1
        await connections.close()

    async def test_several_processes_may_make_it_at_once(self, postgres_url: str) -> None:
        async with opened(postgres_url) as a, opened(postgres_url) as b:
            assert (await a.acquire_some("a", 5.0, 200), len(await b.acquire_some("b", 5.0, 200)))[1] == 56

    async def test_more_partitions_are_heard_of(self, postgres: Cluster, postgres_url: str) -> None:
        async with opened(postgres_url) as store:
            assert store.partitions == 256
            schema = address_of(postgres_url).options.schema
            await sql(postgres, f"insert into {schema}.partition (id) select generate_series(256, 511)")
            await store.announce("w", 5.0)
            assert store.partitions == 512
            assert len(await store.acquire_some("w", 5.0, 1000)) == 512

    async def test_names_and_passwords(self) -> None:
        address = address_of("postgresql://me:secret@host:1/db?schema=Mine&sslmode=require&password=secret")
        assert "secret" not in address.name
        assert address.dsn == "postgresql://me:secret@host:1/db?sslmode=require&password=secret"
        assert address.options.schema == "Mine"
        for wrong in (
            "postgresql://h/d?schema=a-b",
            "postgresql://h/d?pool=0",
            "postgresql:///d",
            "postgresql://h/?listen=x",
        ):
            with pytest.raises(BadUrl):
                address_of(wrong)

    async def test_it_is_all_that_a_user_changes(self, postgres_url: str) -> None:
        @aob.activity
        async def double(number: int) -> int:
            return 2 * number

        @aob.workflow
        async def doubles(number: int) -> int:
            return await double(number)

        async with aob.connect(postgres_url) as client, client.serve(doubles):
            run = await client.start(doubles, 21)
            assert await run.result() == 42
