"""The owner's commits: one call of a function in the schema, one round trip, one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from aob.errors import LeaseLost
from aob.process import Process
from aob.stores.postgres import columns, driver
from aob.stores.postgres.batches import ARGUMENTS, Sealed
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.driver import Rows
from aob.stores.postgres.holdings import Holder, Holdings, Keys, lost
from aob.stores.postgres.partitions import Partitions
from aob.stores.postgres.statements import in_schema, marks
from aob.stores.rows import Append, Appended, Message, RunRow

Conflicts = list[tuple[RunRow, RunRow]]

_EVIDENCE = {
    "event": "select 1 from aob.event where partition = $1 and position = $2 and run = $3 and seq = $4",
    "run": "select 1 from aob.run where key = $1",
    "seen": "select 1 from aob.seen where run = $1 and id = $2",
    "taken": "select 1 where not exists (select 1 from aob.inbox where id = $1)",
    "sent": "select 1 from aob.inbox where nonce = $1",
}
"""Questions whose answer is a row when a commit was made, though nobody heard of it."""

_DONE, _AGAIN, _REDRAW = [("mark", 0)], [("again",)], [("redraw",)]


class Commits:
    """Appends, one at a time."""

    def __init__(
        self, connections: Connections, holdings: Holdings, keys: Keys, process: Process, partitions: Partitions
    ) -> None:
        self._connections = connections
        self._holdings = holdings
        self._keys = keys
        self._process = process
        self._turn = asyncio.Lock()
        self._partitions = partitions
        self.on_sent: Callable[[set[int]], None] = lambda partitions: None
        """Called with the partitions to which a commit sent messages."""
        schema = connections.options.schema
        self._append = in_schema(f"select * from aob.append_1({marks(ARGUMENTS)})", schema)
        self._fence = in_schema("select aob.fence_1($1)", schema)
        self._lost = in_schema("select aob.lost_1($1, $2, $3), w.fence from aob.worker w where w.id = $1", schema)
        self._runs = in_schema(f"select {columns.RUN} from aob.run where key = any ($1::bigint[])", schema)
        self._named = in_schema("select key from aob.run where tenant = $1 and run_id = $2", schema)
        self._evidence = {name: in_schema(sql, schema) for name, sql in _EVIDENCE.items()}

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        async with self._turn:
            self._connections.refuse_closed()
            try:
                appended = await self._commit(batch)
            except BaseException as e:
                _reset(batch.starts)
                if not isinstance(e, Exception):  # given up half-way: nobody knows what came of it
                    self._holdings.dropped(batch.epochs)
                raise
            if not appended.committed:
                _reset(batch.starts)
            return appended

    async def _commit(self, batch: Append) -> Appended:
        self._holdings.holder_of(batch.epochs)
        starts, doubled = _apart(batch.starts)
        conflicts: Conflicts = []
        if doubled and batch.all_or_nothing:
            return Appended(committed=False, conflicts=doubled)
        self._draw(starts)
        nonces = [self._process.seed() for _ in batch.sends]
        own_alone = False
        while True:
            holder, changes = self._holdings.holder_of(batch.epochs), self._holdings.changes
            part = list(batch.epochs) if own_alone else self._holdings.part_of(batch.epochs)
            sealed = Sealed(batch, holder, self._holdings, starts, nonces, self._partitions.count, part)
            rows = await self._write(sealed, holder, batch.epochs)
            what = rows[0][0]
            if what == "mark":
                sealed.committed()
                if part is None and changes == self._holdings.changes:
                    holder.mark = rows[0][1] or holder.mark
                if batch.sends:
                    self.on_sent({row[2] for row in rows[1:]} or set(range(self._partitions.count)))
                return Appended(committed=True, conflicts=[*conflicts, *_second(doubled, conflicts)])
            if what == "inbox":
                if inbox := _handed_out(holder, batch, rows):
                    return Appended(committed=False, inbox=inbox)
                own_alone = True  # those are of partitions whose leases are on their way here
            if what == "taken":
                met = await self._met(starts, [row[1] for row in rows])
                conflicts += met
                if batch.all_or_nothing:
                    return Appended(committed=False, conflicts=conflicts)
                starts = [start for start in starts if start.key]
            elif what == "redraw":
                self._keys.change()
                self._draw(starts)
            elif what == "fenced":
                await self.see_what_is_left(holder, batch.epochs)

    async def _write(self, sealed: Sealed, holder: Holder, epochs: dict[int, int]) -> Rows:
        async def once(again: bool) -> Rows:
            if again:
                await self._refence(holder, epochs)
                if await self._is_there(sealed):
                    return _DONE
                sealed.values[1] = holder.fence
            try:
                return await self._connections.once(self._append, *sealed.values, until=holder.until)
            except driver.DatabaseError as e:
                if driver.violated(e) == "run_pkey":
                    return _REDRAW
                if driver.violated(e) == "run_id":  # somebody was quicker by a moment: now it is there to be found
                    return _AGAIN
                raise

        return await self._connections.trying(once, leased_until=lambda: holder.until)

    async def _refence(self, holder: Holder, epochs: dict[int, int]) -> None:
        """See to it that nothing sent before is still to be done; what is being done is waited for."""
        fence = (await self._connections.once(self._fence, holder.id, until=holder.until))[0][0]
        if fence is None:
            self._holdings.dropped(list(self._holdings.held))
            raise LeaseLost("the database does not know this worker any more; others own its partitions now")
        await self._see(partial(self._connections.once, until=holder.until), holder, epochs)

    async def _is_there(self, sealed: Sealed) -> bool:
        evidence = sealed.evidence()
        if evidence is None:
            return False
        question, about = evidence
        return bool(await self._connections.once(self._evidence[question], *about))

    async def see_what_is_left(self, holder: Holder, epochs: dict[int, int]) -> None:
        """The fence was raised: go on under the new one, unless somebody took a partition of this owner. One is as bad
        as all: under the new fence what is written to that one would no longer be refused.

        Raises:
            LeaseLost: somebody did.
        """
        await self._see(self._connections.rows, holder, epochs)

    async def _see(self, ask: Callable[..., Awaitable[Rows]], holder: Holder, epochs: dict[int, int]) -> None:
        while True:
            changes, held = self._holdings.changes, self._holdings.epochs_of(holder) | epochs
            rows = await ask(self._lost, holder.id, list(held), list(held.values()))
            if not rows or rows[0][0]:
                self._holdings.dropped(held)
                raise lost(*next(iter(epochs.items())))
            if changes == self._holdings.changes:  # else what was taken meanwhile is to be looked at too
                holder.fence = rows[0][1]
                return

    def _draw(self, starts: list[RunRow]) -> None:
        for start in starts:
            start.key = self._keys.draw()

    async def _met(self, starts: list[RunRow], keys: list[int]) -> Conflicts:
        """The starts whose ids these runs have; their keys become 0."""
        rows = await self._connections.rows(self._runs, keys)
        found = {(run.tenant, run.run_id): run for run in map(columns.run_row, rows)}
        conflicts: Conflicts = []
        for start in starts:
            there = found.get((start.tenant, start.run_id))
            if there is not None:
                start.key = 0
                conflicts.append((start, there))
        return conflicts


def _handed_out(holder: Holder, batch: Append, rows: Rows) -> list[Message]:
    """Messages of the partitions that the commit is for."""
    messages = [columns.message_row(tuple(row)[1:]) for row in rows]
    messages = [message for message in messages if message.partition in batch.epochs]
    for message in messages:
        holder.told[message.id] = message.partition
    return messages


def _apart(starts: list[RunRow]) -> tuple[list[RunRow], Conflicts]:
    """The first start of each id, and the others with that first one."""
    first: dict[tuple[str, str], RunRow] = {}
    doubled: Conflicts = []
    for start in starts:
        there = first.setdefault((start.tenant, start.run_id), start)
        if there is not start:
            start.key = 0
            doubled.append((start, there))
    return list(first.values()), doubled


def _second(doubled: Conflicts, conflicts: Conflicts) -> Conflicts:
    """What second starts of an id conflict with: the first one, as it was made, or what that met."""
    met = {id(start): there for start, there in conflicts}
    return [(start, met.get(id(first)) or _copy(first)) for start, first in doubled]


def _copy(run: RunRow) -> RunRow:
    return columns.run_row(tuple(column[0] for column in columns.run_columns([run])))


def _reset(starts: list[RunRow]) -> None:
    for start in starts:
        start.key = 0
