"""The owner's commits and everybody's messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aob.errors import LeaseLost
from aob.stores.rows import (
    LAST_SEQ,
    Append,
    Appended,
    Message,
    ReplyRow,
    RunRow,
)
from aob.stores.sqlite import columns
from aob.stores.sqlite.writer import Refused, Writer

_INBOX_PAGE = 1000

_EPOCH = "select epoch from partition where id = ?"
_FRESH = f"select {columns.MESSAGE} from inbox where partition = ? and id > ? order by id limit {_INBOX_PAGE}"
_RUN = f"select {columns.RUN} from run where tenant = ? and run_id = ?"
_RUN_PARTITION = "select partition from run where tenant = ? and run_id = ?"
_START = (
    f"insert into run ({columns.RUN}) values ({columns.marks(columns.RUN)}) on conflict (tenant, run_id) do nothing"
)
_EVENT = f"insert into event ({columns.EVENT}) values ({columns.marks(columns.EVENT)})"
_SUMMARY = (
    "update run set status = ?, updated = ?, ended = ?, due = ?, reason = ?, checkpoint = ?, deaths = ?, "
    "attributes = ?, build = case when status = 'pending' then ? else build end where key = ?"
)
_SEND = "insert into inbox (partition, tenant, run_id, kind, body, reply, expires) values (?, ?, ?, ?, ?, ?, ?)"
_USE = (
    "insert into blob_use (run, digest, seq) values (?, ?, ?) on conflict (run, digest) "
    "do update set seq = max(seq, excluded.seq)"
)
_BEGIN = "insert or ignore into cursor (exporter, partition, position) values (?, ?, ?)"
_MOVE = "update cursor set position = ? where exporter = ? and partition = ?"
_TICKET = (
    f"insert into ticket ({columns.TICKET}) values ({columns.marks(columns.TICKET)}) on conflict (tenant, id) "
    "do update set assignees = excluded.assignees, deadline = excluded.deadline, status = excluded.status, "
    "by = excluded.by, reason = excluded.reason, closed = excluded.closed, data = excluded.data, title = excluded.title"
)


class Commits:
    """What the writing connection knows, so that a commit reads nothing unless another process wrote.

    It all comes from inside a transaction, and is forgotten when the file shows that another connection committed.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.on_lost: Callable[[int, int], None] = lambda partition, epoch: None
        """Called with partition and epoch when a lease turns out to be lost."""
        self._connection = writer.connection
        self._epochs: dict[int, int] = {}
        self._read_to: dict[int, tuple[int, int]] = {}
        self._read: set[int] = set()
        self._key = 0
        self._position = 0

    async def append(self, batch: Append) -> Appended:
        """See `Store.append`."""
        try:
            return await self._writer.run(lambda: self._append(batch))
        except BaseException:
            for start in batch.starts:
                start.key = 0
            raise

    async def send(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        try:
            return await self._writer.run(lambda: self._send(sends))
        except BaseException:
            for _, start in sends:
                if start is not None:
                    start.key = 0
            raise

    async def take_reply(self, reply: str) -> bytes | None:
        """See `Store.take_reply`."""
        sql = "delete from reply where id = ? returning body"
        found = await self._writer.run(lambda: self._connection.execute(sql, (reply,)).fetchall())
        return found[0][0] if found else None

    def guard(self, partition: int, epoch: int) -> None:
        """Inside a transaction: see that this epoch is the partition's.

        Raises:
            LeaseLost: it is not.
        """
        self.catch_up()
        if self._epochs.get(partition) == epoch:
            return
        row = self._connection.execute(_EPOCH, (partition,)).fetchone()
        if row is None or row[0] != epoch:
            self.on_lost(partition, epoch)
            raise LeaseLost(f"partition {partition} is no longer held under epoch {epoch}; another process owns it now")
        self._epochs[partition] = epoch

    def catch_up(self) -> None:
        """Inside a transaction: forget what other connections may have changed."""
        if not self._writer.news:
            return
        self._epochs.clear()
        self._read.clear()
        rows = self._connection.execute(
            "select max(value, (select ifnull(max(key), 0) from run)) from high_water where name = 'run' union all "
            "select max(value, (select ifnull(max(position), 0) from event)) from high_water where name = 'event'"
        )
        (self._key,), (self._position,) = rows.fetchall()
        self._writer.news = False

    def forget(self, partition: int) -> None:
        """Inside a transaction that changed the partition's owner: look again at the next commit."""
        self._epochs.pop(partition, None)
        self._read.discard(partition)

    def _append(self, batch: Append) -> Appended:
        if not batch.epochs:
            raise LeaseLost("a commit must name the partitions that it is for")
        for partition, epoch in batch.epochs.items():
            self.guard(partition, epoch)
        if not self._read.issuperset(batch.epochs) and (inbox := self._unread(batch)):
            return Appended(committed=False, inbox=inbox)
        conflicts = self._start(batch.starts, batch.all_or_nothing) if batch.starts else []
        if conflicts and batch.all_or_nothing:
            raise Refused(Appended(committed=False, conflicts=conflicts))
        many = self._connection.executemany
        if events := batch.events:
            position, epochs = self._position, batch.epochs
            many(_EVENT, [
                (position := position + 1, run.key, seq, epochs[run.partition], kind, version, chain, data)
                for run, seq, kind, version, chain, data in events if run.key
            ])  # fmt: skip
            self._position = position
        if batch.summaries:
            many(_SUMMARY, [
                (r.status, r.updated, r.ended, r.due, r.reason, r.checkpoint, r.deaths,
                 columns.attributes_value(r), r.build, r.key)
                for r in batch.summaries if r.key
            ])  # fmt: skip
        if batch.takes or batch.replies:
            self.answer(batch.takes, batch.replies)
        if any(row.checkpoint for row in batch.summaries) or any(row.checkpoint for row in batch.starts):
            self._note_checkpoints(batch)
        self._rarer(batch)
        return Appended(committed=True, conflicts=conflicts)

    def _note_checkpoints(self, batch: Append) -> None:
        events = [event for event in batch.events if event[0].key]
        places = enumerate(events, self._position - len(events) + 1)
        self._connection.executemany(
            "insert into checkpoint (position, partition) values (?, ?)",
            [(place, event[0].partition) for place, event in places if event[2] == "checkpoint"],
        )

    def answer(self, takes: Sequence[int], replies: Sequence[ReplyRow]) -> None:
        """Inside a transaction: delete these messages, and write these replies."""
        many = self._connection.executemany
        if takes:
            many("delete from inbox where id = ?", [(id,) for id in takes])
        if replies:
            many("insert or replace into reply (id, body, expires) values (?, ?, ?)", replies)

    def _rarer(self, batch: Append) -> None:
        many = self._connection.executemany
        if batch.seen:
            many("insert into seen (run, id) values (?, ?)", [(run.key, id) for run, id in batch.seen if run.key])
        if blobs := [blob for blob in batch.blobs if blob[0].key]:
            many("insert or ignore into blob (digest, data) values (?, ?)", [(d, data) for _, d, data in blobs])
            last = {run.key: seq for run, seq, *_ in batch.events}
            many(_USE, [(run.key, digest, last.get(run.key, LAST_SEQ)) for run, digest, _ in blobs])
        if batch.tickets:
            many(_TICKET, [columns.ticket_values(ticket) for ticket in batch.tickets])
        if batch.sends:
            many(_SEND, [columns.message_values(self._addressed(message)) for message in batch.sends])
            self._read.difference_update(message.partition for message in batch.sends)
        if batch.cursors:
            many(_BEGIN, [cursor for cursor in batch.cursors if cursor[2] == 0])
            many(_MOVE, [(position, *which) for *which, position in batch.cursors if position])

    def _start(self, starts: list[RunRow], all_or_nothing: bool) -> list[tuple[RunRow, RunRow]]:
        before = self._connection.total_changes()
        for start in starts:
            self._key += 1
            start.key = self._key
        self._connection.executemany(_START, [columns.run_values(start) for start in starts])
        if self._connection.total_changes() - before == len(starts):
            return []
        conflicts: list[tuple[RunRow, RunRow]] = []
        for start in starts:
            found = self._find(start)
            if found.key != start.key:
                conflicts.append((start, found))
        for start, _ in conflicts:
            start.key = 0
        if all_or_nothing:
            for start in starts:
                start.key = 0
        return conflicts

    def _find(self, start: RunRow) -> RunRow:
        (values,) = self._connection.execute(_RUN, (start.tenant, start.run_id)).fetchall()
        return columns.run_row(values)

    def _unread(self, batch: Append) -> list[Message]:
        fresh: list[Message] = []
        takes = set(batch.takes)
        for partition, epoch in batch.epochs.items():
            fresh += self._unread_in(partition, epoch, takes)
        return fresh

    def _unread_in(self, partition: int, epoch: int, takes: set[int]) -> list[Message]:
        before, mark = self._read_to.get(partition, (0, 0))
        if before != epoch:
            mark = 0
        fresh: list[Message] = []
        while not fresh and partition not in self._read:
            page = self._connection.execute(_FRESH, (partition, mark)).fetchall()
            if len(page) < _INBOX_PAGE:
                self._read.add(partition)
            if page:
                mark = page[-1][0]
                fresh = [columns.message_row(values) for values in page if values[0] not in takes]
        self._read_to[partition] = (epoch, mark)
        return fresh

    def _send(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        self.catch_up()
        if conflicts := self._start([start for _, start in sends if start is not None], all_or_nothing=True):
            raise Refused(conflicts)
        for message, _ in sends:
            self._connection.execute(_SEND, columns.message_values(self._addressed(message)))
            message.id = self._connection.last_insert_rowid()
            self._read.discard(message.partition)
        return []

    def _addressed(self, message: Message) -> Message:
        if message.partition < 0:
            found = self._connection.execute(_RUN_PARTITION, (message.tenant, message.run_id)).fetchone()
            message.partition = found[0] if found else 0
        return message
