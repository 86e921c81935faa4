"""What a commit costs does not grow with what is in the tables, whatever the planner thought of them when they were
empty."""

import asyncio

import asyncpg
import pytest

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.postgres import open_store
from aob.stores.postgres.options import address_of
from aob.stores.rows import Append
from aob.testing.conformance.stores.setting import Story, a_message, a_run, committed
from tests.postgres_cluster import Cluster

COMMITS, RUNS = 40, 50

READ = """
select relname, seq_tup_read + coalesce(idx_tup_fetch, 0), (
    select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes i where i.relid = t.relid
) from pg_stat_user_tables t where schemaname = $1
"""


@pytest.mark.needs("postgres")
async def test_commits_read_only_what_they_are_about(postgres: Cluster, postgres_url: str) -> None:
    schema = address_of(postgres_url).options.schema
    store = await open_store(postgres_url, clock=SystemClock(), process=SystemProcess())
    leases = await store.acquire_some("w", 60.0, store.partitions)
    epochs = {lease.partition: lease.epoch for lease in leases}
    connection = await asyncpg.connect(postgres.url())
    await connection.execute(f'alter table "{schema}".run set (autovacuum_enabled = off)')
    for n in range(COMMITS):
        await store.send(a_message(f"m{n}", partition=n))
        refused = await store.append(Append(epochs=epochs))
        runs = [a_run(f"r{n}-{k}", partition=k) for k in range(RUNS)]
        batch = Append(epochs=epochs, starts=runs, takes=[m.id for m in refused.inbox])
        batch.events = [event for run in runs for event in Story(run).tell(b"1", b"2")]
        await committed(store, batch)
        for run in runs:
            run.status, run.ended = "completed", n + 1
        await committed(store, Append(epochs=epochs, summaries=runs))
        await store.send(a_message(f"s{n}", partition=n), a_run(f"s{n}", partition=n, status="pending"))
        taken = (await store.append(Append(epochs=epochs))).inbox
        await committed(store, Append(epochs=epochs, takes=[m.id for m in taken]))
    await store.close()
    await asyncio.sleep(0.5)  # what a back end has counted is told when it ends
    written = COMMITS * RUNS
    read = {table: max(fetched, seen) for table, fetched, seen in await connection.fetch(READ, schema)}
    await connection.close()
    assert read["run"] < 20 * written, read
    assert read["event"] < 20 * written, read
    assert read["inbox"] < 40 * COMMITS, read
