"""What can be told about a Postgres store: its version, owners and sizes."""

from __future__ import annotations

from aob.stores.facts import StoreFacts
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.migrate import migrations, schema_version
from aob.stores.postgres.requirements import lacks
from aob.stores.postgres.statements import in_schema

_OWNERS = """
select w.name, w.expires > aob.now_us() as lives, count(*), max(p.epoch)
from aob.partition p join aob.worker w on w.id = p.owner group by w.id order by lives desc, count(*) desc
"""
_PARTITIONS = "select coalesce(max(epoch), 0), bool_and(clean) from aob.partition"
_SIZE = """
select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c
join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'r'
"""


async def facts_of(connections: Connections) -> StoreFacts:
    """How the store is doing."""
    schema = connections.options.schema
    ((version,),) = await connections.rows("select split_part(current_setting('server_version'), ' ', 1)")
    owners = await connections.rows(in_schema(_OWNERS, schema))
    ((epoch, clean),) = await connections.rows(in_schema(_PARTITIONS, schema))
    ((size,),) = await connections.rows(_SIZE, schema)
    names = [f"{name} ({count} partitions)" for name, lives, count, _ in owners if lives or not owners[0][1]]
    return StoreFacts(
        engine=f"PostgreSQL {version}", path=connections.name, schema=await schema_version(connections),
        newest_schema=max(migrations()), owner=", ".join(names) or None,
        owner_lives=any(lives for _, lives, _, _ in owners), released=bool(clean) and not owners, epoch=epoch,
        bytes_used=size, bytes_in_log=None, bytes_free=None, lacks=tuple(await lacks(connections)),
    )  # fmt: skip
