"""Deleting runs: what only they refer to goes, what forks share stays until the last of those is gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aob.clock import Clock
from aob.errors import NotFinished
from aob.stores.needs import still_needed
from aob.stores.rows import Lease, ReplyRow, Swept
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.driver import Connection
from aob.stores.sqlite.reads import DELETED
from aob.stores.sqlite.writer import Writer

_NEVER = (1 << 63) - 1
_LAST = "ifnull((select position from event where run = run.key order by seq desc limit 1), 0)"
_PARENT = """(
    select p.run_id from run p where p.tenant = run.tenant and p.run_id = run.parent
    and p.status not in ('completed', 'terminated') and (p.status <> 'cancelled' or p.parent is not null)
    and ifnull((select position from event where run = p.key and seq = p.checkpoint), 0)
    <= ifnull((select position from event where run = run.key order by seq limit 1), 0)
)"""
"""The run that started this one and may ask for its result again."""
_OLD = (
    f"select key, ended, {_LAST}, {_PARENT} from run "
    "where partition = ? and ended < ? and (ended, key) > (?, ?) order by ended, key limit ?"
)
_ONE = f"select run_id, ended, status, {_LAST}, {_PARENT} from run where key = ? and partition = ?"


class Removal:
    """Deletions under a lease."""

    def __init__(self, writer: Writer, commits: Commits, clock: Clock) -> None:
        self._writer = writer
        self._commits = commits
        self._clock = clock
        self._connection: Connection = writer.connection

    async def sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int], keep: Collection[int]
    ) -> Swept:
        """See `Store.sweep`."""
        return await self._writer.run(lambda: self._sweep(lease, ended_before, limit, after, keep))

    async def drop_exporter(self, exporter: str) -> int:
        """See `Store.drop_exporter`."""
        sql = "delete from cursor where exporter = ? returning partition"
        return len(await self._writer.run(lambda: self._connection.execute(sql, (exporter,)).fetchall()))

    async def delete(self, lease: Lease, key: int, takes: Sequence[int], replies: Sequence[ReplyRow]) -> None:
        """See `Store.delete_run`."""

        def delete() -> None:
            self._delete_one(lease, key)
            self._commits.answer(takes, replies)

        await self._writer.run(delete)

    def _sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int], keep: Collection[int]
    ) -> Swept:
        self._begin(lease)
        self._connection.execute("delete from reply where expires < ?", (self._clock.now_us(),))
        found = self._connection.execute(_OLD, (lease.partition, ended_before, *after, limit)).fetchall()
        passed, count = self._passed(lease.partition), 0
        for key, _, last, parent in found:
            if last > passed:  # what ended later is not exported yet either
                return Swept(runs=count)
            if parent is None and key not in keep:
                self._delete(key)
                count += 1
        return Swept(runs=count, after=(found[-1][1], found[-1][0]) if len(found) == limit else None)

    def _passed(self, partition: int) -> int:
        """The position up to which every exporter has the partition's events."""
        sql = "select min(position) from cursor where partition = ?"
        passed: int | None = self._connection.execute(sql, (partition,)).fetchall()[0][0]
        return _NEVER if passed is None else passed

    def _delete_one(self, lease: Lease, key: int) -> None:
        self._begin(lease)
        found = self._connection.execute(_ONE, (key, lease.partition)).fetchone()
        if found is None or found[2] == DELETED:
            return
        run_id, ended, _, last, parent = found
        if ended is None:
            raise NotFinished("only a run that has ended can be deleted; cancel or terminate it first", run_id=run_id)
        if parent is not None or last > self._passed(lease.partition):
            raise still_needed(run_id, None if last > self._passed(lease.partition) else parent)
        self._delete(key)

    def _begin(self, lease: Lease) -> None:
        self._commits.guard(lease.partition, lease.epoch)
        execute = self._connection.execute
        execute("update high_water set value = max(value, (select ifnull(max(key), 0) from run)) where name = 'run'")
        execute(
            "update high_water set value = max(value, (select ifnull(max(position), 0) from event)) "
            "where name = 'event'"
        )

    def _delete(self, key: int) -> None:
        execute = self._connection.execute
        execute(
            "delete from ticket where (tenant, run_id) = (select tenant, run_id from run where key = ?)",
            (key,),
        )
        execute("delete from seen where run = ?", (key,))
        if self._shared(key):
            execute(
                "update run set run_id = '~' || key, status = ?, ended = ?, due = null, attributes = null "
                "where key = ?",
                (DELETED, _NEVER, key),
            )
            return
        gone: int | None = key
        while gone is not None:
            gone = self._erase(gone)

    def _shared(self, key: int) -> bool:
        return self._connection.execute("select 1 from run where origin = ? limit 1", (key,)).fetchone() is not None

    def _erase(self, key: int) -> int | None:
        """Delete a run's rows; the origin, when this was the last fork of a deleted one."""
        execute = self._connection.execute
        ((origin, checkpoint),) = execute("select origin, checkpoint from run where key = ?", (key,)).fetchall()
        digests = execute("delete from blob_use where run = ? returning digest", (key,)).fetchall()
        self._connection.executemany(
            "delete from blob where digest = ? and not exists (select 1 from blob_use where digest = blob.digest)",
            digests,
        )
        if checkpoint:
            execute("delete from checkpoint where position in (select position from event where run = ?)", (key,))
        execute("delete from event where run = ?", (key,))
        execute("delete from run where key = ?", (key,))
        if origin is None or self._shared(origin):
            return None
        deleted = execute("select 1 from run where key = ? and status = ?", (origin, DELETED)).fetchone()
        return origin if deleted else None
