"""What a login and a server need to have, and what they lack: for `aob db check` and `aob doctor`, and to explain why a
store cannot be opened."""

from __future__ import annotations

import re

from aob.errors import OperatorError
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.migrate import migrations, schema_version
from aob.stores.postgres.statements import in_schema

OLDEST = 130000
_NAMED = 3
_NEEDED = {"migration": ("select",), "partition": ("select", "update"), "event": ("select", "insert", "delete")}
"""What is needed of a table, where that is not everything: an event is never changed."""
_SERVER = """
select current_setting('server_version_num')::integer, current_setting('server_encoding'), current_user::text,
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
    current_setting('default_transaction_isolation'), pg_is_in_recovery(),
    exists (select 1 from pg_namespace where nspname = $1),
    has_database_privilege(current_database(), 'create'), current_database()::text
"""
_RIGHTS = """
select c.relname::text, p.name from pg_class c join pg_namespace n on n.oid = c.relnamespace
cross join unnest(array['select', 'insert', 'update', 'delete']) as p (name)
where n.nspname = $1 and c.relkind = 'r' and not has_table_privilege(c.oid, p.name) order by 1, 2
"""
_FUNCTIONS = """
select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = $1 and not has_function_privilege(p.oid, 'execute') order by 1
"""
_MADE = re.compile(r"^create (table|function) aob\.(\w+)", re.MULTILINE)
_THERE = """
select 'table', c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relkind in ('r', 'p')
union select 'function', p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = $1
"""
_PARTITIONS = "select count(*) from aob.partition where id < 1048576"
_INVALID = """
select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and not i.indisvalid order by 1
"""


async def lacks(connections: Connections) -> list[str]:
    """What is missing, a line each with what to do about it."""
    schema = connections.options.schema
    ((
        version, encoding, user, fsync, full_pages, synchronous, isolation, standby, there, may_create, database,
    ),) = await connections.rows(_SERVER, schema)  # fmt: skip
    found: list[str] = []
    if version < OLDEST:
        found.append(f"the server has version {version // 10000}: PostgreSQL 13 or later is needed")
    if encoding != "UTF8":
        found.append(f"the database has the encoding {encoding}: make one with the encoding UTF8")
    if standby:
        found.append("the server is a standby, which cannot be written: name the primary")
    found += durability(fsync, full_pages, synchronous)
    if isolation != "read committed":
        found.append(f"default_transaction_isolation is {isolation}: commits are tried again more often than needed")
    if not there:
        if not may_create:
            found.append(
                f"there is no schema {schema}, and {user} may not make it: as its owner run aob db migrate, or "
                f"grant create on database {database} to {user}"
            )
        return found
    ((may_use,),) = await connections.rows("select has_schema_privilege($1, 'usage')", schema)
    if not may_use:
        return [*found, f"{user} may not use the schema: grant usage on schema {schema} to {user}"]
    return found + await _in_schema(connections, user)


def durability(fsync: str, full_pages: str, synchronous: str) -> list[str]:
    """Settings under which what was acknowledged may be lost."""
    found: list[str] = []
    if synchronous == "off":
        found.append("synchronous_commit is off for this login: a crash loses what was acknowledged; set it to on")
    if fsync == "off":
        found.append("fsync is off: a crash of the machine can destroy the database; set it to on")
    if full_pages == "off":
        found.append("full_page_writes is off: a crash of the machine can destroy the database; set it to on")
    return found


async def _in_schema(connections: Connections, user: str) -> list[str]:
    schema = connections.options.schema
    found: list[str] = []
    missing: dict[str, list[str]] = {}
    for table, right in await connections.rows(_RIGHTS, schema):
        if right in _NEEDED.get(table, (right,)):
            missing.setdefault(table, []).append(right)
    for table, rights in missing.items():
        found.append(f"{user} lacks rights: grant {', '.join(rights)} on {schema}.{table} to {user}")
    functions = [name for (name,) in await connections.rows(_FUNCTIONS, schema)]
    if functions:
        found.append(f"{user} lacks rights: grant execute on all functions in schema {schema} to {user}")
    found += [
        f"the index {schema}.{name} is not valid: reindex index {schema}.{name}"
        for (name,) in await connections.rows(_INVALID, schema)
    ]
    if "migration" in missing:
        return found
    try:
        applied, newest = await schema_version(connections), max(migrations())
    except OperatorError as e:
        return [*found, e.message]
    there: set[tuple[str, str]] = {(what, name) for what, name in await connections.rows(_THERE, schema)}
    expected = [pair for number, text in migrations().items() if number <= applied for pair in _MADE.findall(text)]
    gone = [f"{what} {schema}.{name}" for what, name in expected if (what, name) not in there]
    if gone:
        return [*found, f"somebody has dropped the {', the '.join(gone)}: restore the schema from a copy"]
    if not applied and there:
        names = ", ".join(sorted(name for _, name in there)[:_NAMED])
        found.append(f"the schema {schema} holds what is not aob's ({names}): name another one with ?schema=NAME")
    elif applied < newest:
        found.append(f"the schema is at {applied}, this aob needs {newest}: as its owner run aob db migrate")
    elif applied > newest:
        found.append(f"the schema is at {applied}, this aob knows {newest}: upgrade aob")
    else:
        ((partitions,),) = await connections.rows(in_schema(_PARTITIONS, schema))
        if not partitions:
            found.append("there are no partitions: restore the table partition from a copy")
    return found
