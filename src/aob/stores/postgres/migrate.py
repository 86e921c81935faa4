"""The schema and its numbered changes. Each is applied whole, under a lock, or not at all; old workers go on."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from aob.errors import StoreTooNew
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.driver import Connection
from aob.stores.postgres.statements import in_schema

_LOCK = 0x616F6231
"""With the schema's hash, the advisory lock under which migrations are applied."""


@cache
def migrations() -> dict[int, str]:
    """All migrations by number, as SQL."""
    found: dict[int, str] = {}
    for file in resources.files("aob.stores.postgres").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name):
            found[int(match[1])] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


async def migrate(connections: Connections, known: dict[int, str] | None = None) -> int:
    """Bring the schema to the newest form; the number of migrations applied.

    Args:
        known: migrations by number; those of this aob when left out.

    Raises:
        StoreTooNew: a newer aob made it.
        StoreUnavailable: this login may not make what is missing.
    """
    steps = migrations() if known is None else known
    newest = max(steps)
    if _refuse_newer(await schema_version(connections), newest, connections.name) == newest:
        return 0
    return await connections.trying(lambda _: _apply(connections, steps, newest))


async def schema_version(connections: Connections) -> int:
    """The number of the last migration that was applied; 0: there is no schema yet."""
    schema = connections.options.schema
    there = await connections.rows(
        "select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = $1 and c.relname = 'migration'",
        schema,
    )
    if not there:
        return 0
    rows = await connections.rows(in_schema("select coalesce(max(number), 0) from aob.migration", schema))
    return rows[0][0]


async def _apply(connections: Connections, steps: dict[int, str], newest: int) -> int:
    schema = connections.options.schema
    connection = await connections.connect()
    try:
        async with connection.transaction():
            # one string, one round trip each: a proxy may give every transaction another connection
            await connection.execute(f"select pg_advisory_xact_lock({_LOCK}, hashtext('{schema}'))")
            found = await connection.execute(f"select 1 from pg_catalog.pg_namespace where nspname = '{schema}'")
            if found == "SELECT 0":
                await connection.execute(f'create schema "{schema}"')
            version = await _version(connection, schema)
            _refuse_newer(version, newest, connections.name)
            for number in range(version + 1, newest + 1):
                await connection.execute(in_schema(steps[number], schema))
                await connection.execute(in_schema(f"insert into aob.migration (number) values ({number})", schema))
        return newest - version
    finally:
        connection.terminate()


async def _version(connection: Connection, schema: str) -> int:
    ((there,),) = await connection.fetch("select to_regclass($1)::text", f'"{schema}".migration')
    if there is None:
        return 0
    return (await connection.fetch(in_schema("select coalesce(max(number), 0) from aob.migration", schema)))[0][0]


def _refuse_newer(version: int, newest: int, name: str) -> int:
    if version > newest:
        raise StoreTooNew(
            f"{name} was made by a newer aob (schema {version}, this one knows {newest}); upgrade aob, "
            "or restore the copy made before the upgrade"
        )
    return version
