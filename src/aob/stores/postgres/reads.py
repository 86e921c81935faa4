"""What is read: by anybody, without touching a partition's owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aob.errors import StoreCorrupt
from aob.stores.chain import check_chain, is_content
from aob.stores.postgres import columns
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.statements import in_schema, of
from aob.stores.rows import CursorRow, EventRow, LogRow, Message, RunFilter, RunRow, TicketRow

_LAST = (1 << 31) - 1
_PARTS = """
with recursive part (run, low, high, origin) as (
    select key, origin_seq, $3::integer, origin from aob.run where key = $1
    union all
    select r.key, r.origin_seq, least(p.high, p.low), r.origin
    from part p join aob.run r on r.key = p.origin where p.low > $2
)
"""
_EVENTS = f"""{_PARTS}
select {of("e", columns.EVENT)} from part p cross join lateral (
    select * from aob.event e where e.run = p.run and e.seq > greatest(p.low, $2) and e.seq <= p.high
    order by e.seq limit $4
) e order by e.seq limit $4
"""
_LAST_EVENT = f"""{_PARTS}
select {of("e", columns.EVENT)} from part p cross join lateral (
    select * from aob.event e where e.run = p.run and e.seq > greatest(p.low, $2) and e.seq <= p.high
    order by e.seq desc limit 1
) e order by e.seq desc limit 1
"""
_CHECKPOINTS = (
    f"select {columns.EVENT} from aob.event "
    "where partition = $1 and kind = 'checkpoint' and position > $2 "
    "and position <= coalesce(aob.passed_1($1), position) order by position limit $3"
)
_LOG = f"""
select e.* from unnest($1::integer[], $2::bigint[]) as c (partition, position) cross join lateral (
    select {columns.LOG} from aob.event e join aob.run r on r.key = e.run
    where e.partition = c.partition and e.position > c.position and r.status <> 'deleted' order by e.position limit $3
) e order by e.partition, e.position
"""
_CURSORS = """
select exporter, partition, position, coalesce((
    select e.position from aob.event e where e.partition = c.partition order by e.position desc limit 1
), 0) from aob.cursor c where $1::text is null or exporter = $1 order by exporter, partition
"""
_OPEN = (
    "where partition = any ($1::integer[]) and key > $2 and ended is null and status {} 'waiting' order by key limit $3"
)


class Reads:
    """Queries."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._schema = connections.options.schema
        self._run = self.sql(f"select {columns.RUN} from aob.run where tenant = $1 and run_id = $2")
        self._by_key = self.sql(f"select {columns.RUN} from aob.run where key = $1 and status <> 'deleted'")
        self._open = self.sql(f"select {columns.RUN} from aob.run " + _OPEN.format("<>"))
        self._dues = self.sql("select key, due from aob.run " + _OPEN.format("="))
        self._events = self.sql(_EVENTS)
        self._last_event = self.sql(_LAST_EVENT)
        self._checkpoints = self.sql(_CHECKPOINTS)
        self._log = self.sql(_LOG)
        self._cursors = self.sql(_CURSORS)
        self._seen = self.sql("select id from aob.seen where run = $1")
        self._blob = self.sql("select data from aob.blob where digest = $1")
        self._take_reply = self.sql("delete from aob.reply where id = $1 returning body")
        self._has_reply = self.sql("select body from aob.reply where id = $1")
        self._ticket = self.sql(f"select {columns.TICKET} from aob.ticket where tenant = $1 and id = $2")

    def sql(self, text: str) -> str:
        """A statement for this store's schema."""
        return in_schema(text, self._schema)

    async def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        return await self._connections.rows(sql, *values)

    async def run(self, tenant: str, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        if "\0" in tenant or "\0" in run_id:
            return None  # no text in Postgres has this character
        found = await self.rows(self._run, tenant, run_id)
        return columns.run_row(found[0]) if found and found[0][5] != "deleted" else None

    async def run_by_key(self, key: int) -> RunRow | None:
        """See `Store.run_by_key`."""
        found = await self.rows(self._by_key, key)
        return columns.run_row(found[0]) if found else None

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        terms, values = ["status <> 'deleted'"], list[Any]()

        def term(text: str, value: Any) -> None:
            values.append(value)
            terms.append(text.format(f"${len(values)}"))

        for column, wanted in (("tenant", where.tenant), ("workflow", where.workflow), ("parent", where.parent)):
            if wanted is not None:
                term(f"{column} = {{}}", wanted)
        if len(where.status) == 1:
            term("status = {}", where.status[0])
        elif where.status:
            term("status = any ({}::text[])", list(where.status))
        if where.attributes:
            term("attributes @> {}::jsonb", columns.attributes_value(where.attributes))
        if where.before is not None:
            term("key < {}", where.before)
        values.append(where.limit)
        sql = f"select {columns.RUN} from aob.run where {' and '.join(terms)} order by key desc limit ${len(values)}"
        return [columns.run_row(row) for row in await self.rows(self.sql(sql), *values)]

    async def open_runs(self, partitions: Sequence[int], after: int, limit: int) -> list[RunRow]:
        """See `Store.open_runs`."""
        return [columns.run_row(row) for row in await self.rows(self._open, list(partitions), after, limit)]

    async def dues(self, partitions: Sequence[int], after: int, limit: int) -> list[tuple[int, int | None]]:
        """See `Store.dues`."""
        return [(row[0], row[1]) for row in await self.rows(self._dues, list(partitions), after, limit)]

    async def events(self, run: int, after: int, limit: int, until: int | None) -> list[EventRow]:
        """See `Store.events`.

        Raises:
            StoreCorrupt: an event is missing or not what was written.
        """
        # the event before comes along for its chain
        first, last = max(after - 1, 0), _LAST if until is None else min(until, _LAST)
        wanted = min(limit + (after > 0), _LAST)
        found = [columns.event_row(row) for row in await self.rows(self._events, run, first, last, wanted)]
        before = found.pop(0) if found and found[0].seq <= after else None
        del found[limit:]
        check_chain(found, after, before.chain if before else 0, self._connections.name)
        return found

    async def checkpoints(self, partition: int, after: int, limit: int) -> list[EventRow]:
        """See `Store.checkpoints`."""
        return [columns.event_row(row) for row in await self.rows(self._checkpoints, partition, after, limit)]

    async def last_event(self, run: int) -> EventRow | None:
        """See `Store.last_event`."""
        found = await self.rows(self._last_event, run, 0, _LAST)
        return columns.event_row(found[0]) if found else None

    async def log(self, after: Mapping[int, int], limit: int) -> list[LogRow]:
        """See `Store.log`."""
        return [LogRow(*row) for row in await self.rows(self._log, list(after), list(after.values()), limit)]

    async def cursors(self, exporter: str | None) -> list[CursorRow]:
        """See `Store.cursors`."""
        return [
            CursorRow(exporter=name, partition=partition, position=position, last=last)
            for name, partition, position, last in await self.rows(self._cursors, exporter)
        ]

    async def seen(self, run: int) -> set[str]:
        """See `Store.seen`."""
        return {row[0] for row in await self.rows(self._seen, run)}

    async def blob(self, digest: str) -> bytes | None:
        """See `Store.blob`."""
        found = await self.rows(self._blob, digest)
        if not found:
            return None
        data: bytes = found[0][0]
        if not is_content(digest, data):
            raise StoreCorrupt(
                f"{self._connections.name} is damaged: the payload {digest} is not what was written; "
                "stop every process that uses it, and restore a backup"
            )
        return data

    async def waiting(self, partition: int | None) -> list[Message]:
        """See `Store.waiting`."""
        where = "" if partition is None else "where partition = $1 "
        sql = self.sql(f"select {columns.MESSAGE} from aob.inbox {where}order by id")
        values = () if partition is None else (partition,)
        return [columns.message_row(row) for row in await self.rows(sql, *values)]

    async def take_reply(self, reply: str) -> bytes | None:
        """See `Store.take_reply`."""
        found = await self.rows(self._has_reply, reply)
        if not found:
            return None
        # if the answer to the deletion is lost, what was read before is still the answer
        body: bytes = found[0][0]
        gone = await self._connections.trying(lambda again: self._delete_reply(reply, again))
        return body if gone else None

    async def _delete_reply(self, reply: str, again: bool) -> bool:
        return bool(await self._connections.once(self._take_reply, reply)) or again

    async def ticket(self, tenant: str, ticket: str) -> TicketRow | None:
        """See `Store.get_ticket`."""
        found = await self.rows(self._ticket, tenant, ticket)
        return columns.ticket_row(found[0]) if found else None

    async def tickets(self, tenant: str | None, status: str | None, run_id: str | None, limit: int) -> list[TicketRow]:
        """See `Store.tickets`."""
        terms, values = ["true"], list[Any]()
        for column, wanted in (("tenant", tenant), ("run_id", run_id)):
            if wanted is not None:
                values.append(wanted)
                terms.append(f"{column} = ${len(values)}")
        if status == "open":
            terms.append("status = 'open'")
        elif status is not None:
            values.append(status)
            terms.append(f"status = ${len(values)}")
        values.append(limit)
        terms_and_order = f"where {' and '.join(terms)} order by key desc limit ${len(values)}"
        sql = f"select {columns.TICKET} from aob.ticket {terms_and_order}"
        return [columns.ticket_row(row) for row in await self.rows(self.sql(sql), *values)]
