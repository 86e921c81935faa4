"""Deleting runs: what only they refer to goes, what forks share stays until the last of those is gone."""

from __future__ import annotations

from aob.clock import Clock
from aob.errors import NotFinished
from aob.stores.rows import Lease
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.driver import Connection
from aob.stores.sqlite.reads import DELETED
from aob.stores.sqlite.writer import Writer

_NEVER = (1 << 63) - 1


class Removal:
    """Deletions under a lease."""

    def __init__(self, writer: Writer, commits: Commits, clock: Clock) -> None:
        self._writer = writer
        self._commits = commits
        self._clock = clock
        self._connection: Connection = writer.connection

    async def sweep(self, lease: Lease, ended_before: int, limit: int) -> int:
        """See `Store.sweep`."""
        return await self._writer.run(lambda: self._sweep(lease, ended_before, limit))

    async def delete(self, lease: Lease, key: int) -> None:
        """See `Store.delete_run`."""
        await self._writer.run(lambda: self._delete_one(lease, key))

    def _sweep(self, lease: Lease, ended_before: int, limit: int) -> int:
        self._begin(lease)
        keys = self._connection.execute(
            "select key from run where ended < ? and partition = ? order by ended limit ?",
            (ended_before, lease.partition, limit),
        ).fetchall()
        for (key,) in keys:
            self._delete(key)
        self._connection.execute("delete from reply where expires < ?", (self._clock.now_us(),))
        return len(keys)

    def _delete_one(self, lease: Lease, key: int) -> None:
        self._begin(lease)
        found = self._connection.execute(
            "select run_id, ended, status from run where key = ? and partition = ?", (key, lease.partition)
        ).fetchone()
        if found is None or found[2] == DELETED:
            return
        if found[1] is None:
            raise NotFinished("only a run that has ended can be deleted; cancel or terminate it first", run_id=found[0])
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
