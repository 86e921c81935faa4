"""What must hold of a Postgres store when all is over: asked of its tables, and of what can be read from it."""

from __future__ import annotations

import asyncpg

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.postgres import open_store
from aob.stores.postgres.options import address_of
from aob.testing.oracle import look, problems

_MUST_BE_NONE = {
    "runs that have not ended": "select run_id || ' ' || status from {s}.run where ended is null limit 20",
    "messages that nobody took": "select kind || ' to ' || run_id from {s}.inbox limit 20",
    "runs that were parked": "select run_id || ': ' || reason from {s}.run where status = 'parked' limit 20",
    "partitions with gaps": """
        select partition || ': ' || count(*) || ' events up to ' || max(position) from {s}.event group by partition
        having count(*) <> max(position) - min(position) + 1""",
    "owners that wrote after they were replaced": """
        select distinct partition::text from (
            select partition, epoch, lag(epoch) over (partition by partition order by position) as before from {s}.event
        ) as e where epoch < before""",
    "histories with gaps": """
        select run::text from {s}.event group by run having min(seq) <> 1 or max(seq) <> count(*) limit 20""",
    "runs that began twice": """
        select run::text from {s}.event where kind = 'run_started' group by run having count(*) > 1 limit 20""",
    "ids of two runs": "select run_id from {s}.run group by tenant, run_id having count(*) > 1",
}


async def in_the_tables(url: str, swept: bool = False) -> list[str]:
    """What the tables say is wrong.

    Args:
        swept: ended runs were deleted meanwhile, which leaves gaps in partitions.
    """
    address = address_of(url)
    connection = await asyncpg.connect(address.dsn)
    found: list[str] = []
    try:
        for what, question in _MUST_BE_NONE.items():
            if swept and what == "partitions with gaps":
                continue
            rows = await connection.fetch(question.format(s=f'"{address.options.schema}"'))
            if rows:
                found.append(f"{what}: {', '.join(str(row[0]) for row in rows)}")
    finally:
        await connection.close()
    return found


async def all_problems(url: str, swept: bool = False) -> list[str]:
    """What is wrong with a store whose work is done; empty when all is well."""
    store = await open_store(url, clock=SystemClock(), process=SystemProcess())
    try:
        return [*await in_the_tables(url, swept), *problems(await look(store)), *await store.check()]
    finally:
        await store.close()
