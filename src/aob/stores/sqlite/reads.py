"""What is read, on a connection of its own: it sees what is committed and nothing else."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from aob.errors import StoreUnavailable
from aob.stores.chain import check_chain, is_content
from aob.stores.rows import CursorRow, EventRow, LogRow, Message, RunFilter, RunRow, TicketRow
from aob.stores.sqlite import columns, faults
from aob.stores.sqlite.driver import Connection

DELETED = "deleted"
"""Status of what is left of a deleted run while forks share its events; no reader sees it."""

_RUN = f"select {columns.RUN} from run where tenant = ? and run_id = ?"
_BY_KEY = f"select {columns.RUN} from run where key = ?"
_LAST_EVENT = f"select {columns.EVENT} from event where run = ? and seq > ? and seq <= ? order by seq desc limit 1"
_EVENTS = f"select {columns.EVENT} from event where run = ? and seq > ? and seq <= ? order by seq limit ?"
_CHECKPOINTS = (
    f"select {columns.EVENT} from event where position in (select position from checkpoint where position > ?1 "
    "and position <= ifnull((select min(position) from cursor where partition = ?2), position) and partition = ?2 "
    "order by position limit ?3) order by position"
)
_LOG = (
    f"select {columns.LOG} from event e cross join run r on r.key = e.run where e.position > ? and r.partition = ? "
    f"and r.status <> '{DELETED}' order by e.position limit ?"
)
_CURSORS = """
select exporter, partition, position, ifnull((
    select position from event e where exists (
        select 1 from run r where r.key = e.run and r.partition = cursor.partition
    ) order by position desc limit 1
), 0) from cursor where ?1 is null or exporter = ?1 order by exporter, partition
"""
_LAST = 1 << 62


class Reads:
    """Queries on the reading connection."""

    def __init__(self, connection: Connection, path: str, busy_timeout: float) -> None:
        self._connection = connection
        self._path = path
        self._busy_timeout = busy_timeout
        self._closed = False

    def close(self) -> None:
        """Let go of the file."""
        self._closed = True
        self._connection.close()

    def refuse_closed(self) -> None:
        """See that the store is open.

        Raises:
            StoreUnavailable: it was closed.
        """
        if self._closed:
            raise StoreUnavailable(f"{self._path} was closed")

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        self.refuse_closed()
        try:
            return self._connection.execute(sql, values).fetchall()
        except apsw.Error as e:
            raise faults.translated(e, self._path, self._busy_timeout) from e

    def version(self) -> int:
        """A number that changes when another connection has committed."""
        return self.rows("pragma data_version")[0][0]

    def run(self, tenant: str, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        found = self.rows(_RUN, (tenant, run_id))
        return columns.run_row(found[0]) if found and found[0][5] != DELETED else None

    def runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        terms, values = [f"status <> '{DELETED}'"], list[Any]()
        for column, wanted in (("tenant", where.tenant), ("workflow", where.workflow), ("parent", where.parent)):
            if wanted is not None:
                terms.append(f"{column} = ?")
                values.append(wanted)
        if where.status:
            terms.append(f"status in ({', '.join('?' * len(where.status))})")
            values += where.status
        for name, value in where.attributes.items():
            terms.append("exists (select 1 from json_each(attributes) where key = ? and value = ?)")
            values += (name, value)
        if where.before is not None:
            terms.append("run.key < ?")
            values.append(where.before)
        values.append(where.limit)
        sql = f"select {columns.RUN} from run where {' and '.join(terms)} order by run.key desc limit ?"
        return [columns.run_row(row) for row in self.rows(sql, tuple(values))]

    def run_by_key(self, key: int) -> RunRow | None:
        """See `Store.run_by_key`."""
        found = self.rows(_BY_KEY, (key,))
        return columns.run_row(found[0]) if found and found[0][5] != DELETED else None

    def open_runs(self, partitions: Sequence[int], after: int, limit: int) -> list[RunRow]:
        """See `Store.open_runs`."""
        sql = (
            f"select {columns.RUN} from run where partition in ({columns.few(partitions)}) and key > ? "
            "and ended is null and status <> 'waiting' order by key limit ?"
        )
        return [columns.run_row(row) for row in self.rows(sql, (*partitions, after, limit))]

    def dues(self, partitions: Sequence[int], after: int, limit: int) -> list[tuple[int, int | None]]:
        """See `Store.dues`."""
        sql = (
            f"select key, due from run where partition in ({columns.few(partitions)}) and key > ? "
            "and ended is null and status = 'waiting' order by key limit ?"
        )
        return [(key, due) for key, due in self.rows(sql, (*partitions, after, limit))]

    def events(self, run: int, after: int, limit: int, until: int | None) -> list[EventRow]:
        """See `Store.events`.

        Raises:
            StoreCorrupt: an event is missing or not what was written.
        """
        # the event before comes along for its chain
        first, last = max(after - 1, 0), _LAST if until is None else until
        parts = self._parts(run, first, last)
        if len(parts) < 2:
            found = self._read(parts, first, limit + (after > 0))
        else:
            with self._one_moment():  # the runs of a line of forks may be deleted by another process, all at once
                found = self._read(self._parts(run, first, last), first, limit + (after > 0))
        before = found.pop(0) if found and found[0].seq <= after else None
        del found[limit:]
        check_chain(found, after, before.chain if before else 0, self._path)
        return found

    def _read(self, parts: list[tuple[int, int, int]], first: int, limit: int) -> list[EventRow]:
        found: list[EventRow] = []
        for key, low, high in parts:
            wanted = limit - len(found)
            if wanted <= 0:
                break
            rows = self.rows(_EVENTS, (key, max(low, first), high, wanted))
            found += [columns.event_row(row) for row in rows]
        return found

    @contextmanager
    def _one_moment(self) -> Generator[None]:
        """All that is read in this block is as it was at one moment."""
        self.rows("begin")
        try:
            yield
        finally:
            self.rows("rollback")

    def checkpoints(self, partition: int, after: int, limit: int) -> list[EventRow]:
        """See `Store.checkpoints`."""
        return [columns.event_row(row) for row in self.rows(_CHECKPOINTS, (after, partition, limit))]

    def last_event(self, run: int) -> EventRow | None:
        """See `Store.last_event`."""
        for key, low, high in reversed(self._parts(run, 0, _LAST)):
            rows = self.rows(_LAST_EVENT, (key, low, high))
            if rows:
                return columns.event_row(rows[0])
        return None

    def _parts(self, run: int, first: int, until: int) -> list[tuple[int, int, int]]:
        parts: list[tuple[int, int, int]] = []
        while True:
            found = self.rows("select origin, origin_seq from run where key = ?", (run,))
            origin, shared = found[0] if found else (None, 0)
            if origin is not None and origin >= run:
                raise faults.corrupt(self._path, f"the run with key {run} was forked from a later one")
            if until > shared:
                parts.append((run, shared, until))
            if origin is None or shared <= first:
                return parts[::-1]
            run, until = origin, min(until, shared)

    def log(self, partition: int, after: int, limit: int) -> list[LogRow]:
        """See `Store.log`."""
        return [columns.log_row(row) for row in self.rows(_LOG, (after, partition, limit))]

    def cursors(self, exporter: str | None) -> list[CursorRow]:
        """See `Store.cursors`."""
        return [
            CursorRow(exporter=name, partition=partition, position=position, last=last)
            for name, partition, position, last in self.rows(_CURSORS, (exporter,))
        ]

    def seen(self, run: int) -> set[str]:
        """See `Store.seen`."""
        return {row[0] for row in self.rows("select id from seen where run = ?", (run,))}

    def blob(self, digest: str) -> bytes | None:
        """See `Store.blob`."""
        found = self.rows("select data from blob where digest = ?", (digest,))
        if not found:
            return None
        data: bytes = found[0][0]
        if not is_content(digest, data):
            raise faults.corrupt(self._path, f"the payload {digest} is not what was written")
        return data

    def waiting(self, partition: int | None) -> list[Message]:
        """See `Store.waiting`."""
        sql = f"select {columns.MESSAGE} from inbox where ?1 is null or partition = ?1 order by id"
        return [columns.message_row(row) for row in self.rows(sql, (partition,))]

    def has_reply(self, reply: str) -> bool:
        """Whether an answer has come."""
        return bool(self.rows("select 1 from reply where id = ?", (reply,)))

    def ticket(self, tenant: str, ticket: str) -> TicketRow | None:
        """See `Store.get_ticket`."""
        found = self.rows(f"select {columns.TICKET} from ticket where tenant = ? and id = ?", (tenant, ticket))
        return columns.ticket_row(found[0]) if found else None

    def tickets(self, tenant: str | None, status: str | None, run_id: str | None, limit: int) -> list[TicketRow]:
        """See `Store.tickets`."""
        terms, values = ["1"], list[Any]()
        for column, wanted in (("tenant", tenant), ("run_id", run_id)):
            if wanted is not None:
                terms.append(f"{column} = ?")
                values.append(wanted)
        if status == "open":
            terms.append("status = 'open'")
        elif status is not None:
            terms.append("status = ?")
            values.append(status)
        values.append(limit)
        sql = f"select {columns.TICKET} from ticket where {' and '.join(terms)} order by key desc limit ?"
        return [columns.ticket_row(row) for row in self.rows(sql, tuple(values))]
