"""I10 on Postgres: a transaction that is held open while later ones commit is not missed by whoever reads the log."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.postgres import PostgresStore, open_store
from aob.stores.protocol import Store
from aob.stores.rows import Lease
from aob.testing.conformance.stores.log import Reader
from aob.testing.conformance.stores.setting import Story, a_run, started, taken, told
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.needs("postgres")

HOLD = """
create table "{0}".held (partition integer);
create function "{0}".hold() returns trigger language plpgsql as $$
begin
    while exists (select 1 from "{0}".held where partition = new.partition) loop
        perform pg_sleep(0.02);
    end loop;
    return null;
end $$;
create constraint trigger hold after insert on "{0}".event deferrable initially deferred
    for each row execute function "{0}".hold();
insert into "{0}".held values (0);
"""
"""Commits with events of partition 0 stay open, everything written, until the table is empty."""


async def opened(url: str) -> PostgresStore:
    return await open_store(url, clock=SystemClock(), process=SystemProcess())


async def write(store: Store, lease: Lease, commits: int) -> None:
    run = a_run(f"r{lease.partition}", partition=lease.partition)
    await started(store, lease, run)
    story = Story(run)
    for n in range(commits):
        await told(store, lease, *story.tell(b"%d" % n))


async def test_what_commits_late_is_read_though_later_ones_were_read_before(
    postgres: Cluster, postgres_url: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    a, b, c = [await opened(postgres_url) for _ in range(3)]
    direct = await asyncpg.connect(postgres_url.partition("?")[0])
    try:
        here, there = await taken(a, 0, "a", 60.0), await taken(b, 1, "b", 60.0)
        await direct.execute(HOLD.format(schema))
        reader = Reader(c, [0, 1])
        late = asyncio.create_task(write(a, here, 3))
        await write(b, there, 50)
        while await reader.read():
            pass
        assert [row.data for row in reader.rows[1]] == [b"%d" % n for n in range(50)]
        assert reader.rows[0] == []
        assert not late.done()
        await direct.execute(f'delete from "{schema}".held')
        await late
        await write_more(b, there)
        while await reader.read():
            pass
        assert [row.data for row in reader.rows[0]] == [b"0", b"1", b"2"]
        assert [row.data for row in reader.rows[1]][50:] == [b"more"]
    finally:
        await direct.close()
        for store in (a, b, c):
            await store.close()


async def write_more(store: Store, lease: Lease) -> None:
    run = a_run("more", partition=lease.partition)
    await started(store, lease, run)
    await told(store, lease, *Story(run).tell(b"more"))
