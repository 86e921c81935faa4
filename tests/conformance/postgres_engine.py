"""The engine on a schema of its own in the test session's Postgres."""

from __future__ import annotations

from functools import partial

import asyncpg

from aob.stores.postgres.options import address_of
from aob.testing.conformance.engine_harness import EngineUnderTest


async def expire(url: str, owner: str | None) -> None:
    """End an owner's leases (None: everybody's), as time would."""
    address = address_of(url)
    connection = await asyncpg.connect(address.dsn)
    try:
        table = f'"{address.options.schema}".worker'
        if await connection.fetchval("select to_regclass($1) is not null", table):
            await connection.execute(
                f"update {table} set expires = 0, announced = 0 where $1::text is null or name = $1", owner
            )
    finally:
        await connection.close()


def postgres_engine(url: str) -> EngineUnderTest:
    """An engine on an empty store."""
    return EngineUnderTest(url, expire=partial(expire, url))
