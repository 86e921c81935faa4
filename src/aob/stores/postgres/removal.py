"""Deleting runs, under a lease."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aob.errors import NotFinished
from aob.stores.needs import still_needed
from aob.stores.postgres.commits import Commits
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.driver import Rows
from aob.stores.postgres.holdings import Holder, Holdings
from aob.stores.postgres.statements import in_schema, marks
from aob.stores.rows import Lease, ReplyRow, Swept


class Removal:
    """Deletions; the schema's functions see that nothing goes that somebody still needs."""

    def __init__(self, connections: Connections, holdings: Holdings, commits: Commits) -> None:
        self._connections = connections
        self._holdings = holdings
        self._commits = commits
        schema = connections.options.schema
        self._sweep = in_schema("select * from aob.sweep_1($1, $2, $3, $4, $5, $6, $7, $8)", schema)
        self._delete = in_schema(f"select * from aob.delete_1({marks(8)})", schema)
        self._drop = in_schema("delete from aob.cursor where exporter = $1 returning partition", schema)
        self._id = in_schema("select run_id from aob.run where key = $1", schema)

    async def sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int], keep: Collection[int]
    ) -> Swept:
        """See `Store.sweep`."""
        runs, ended, key = await self.guarded(lease, self._sweep, ended_before, limit, *after, list(keep))
        return Swept(runs=runs, after=None if key is None else (ended, key))

    async def delete(self, lease: Lease, key: int, takes: Sequence[int], replies: Sequence[ReplyRow]) -> None:
        """See `Store.delete_run`."""
        ids, bodies, expires = zip(*replies, strict=True) if replies else ((), (), ())
        what, by = await self.guarded(lease, self._delete, key, list(takes), ids, bodies, expires)
        if what in ("none", "deleted"):
            self.gone(takes)
            return
        found = await self._connections.rows(self._id, key)
        run_id = found[0][0] if found else None
        if what == "open":
            raise NotFinished("only a run that has ended can be deleted; cancel or terminate it first", run_id=run_id)
        raise still_needed(run_id, by)

    def gone(self, messages: Iterable[int]) -> None:
        """These are in the inbox no more."""
        for holder in self._holdings.holders.values():
            for id in messages:
                holder.told.pop(id, None)

    async def drop_exporter(self, exporter: str) -> int:
        """See `Store.drop_exporter`."""
        return len(await self._connections.rows(self._drop, exporter))

    async def guarded(self, lease: Lease, sql: str, *values: Any) -> Any:
        """The row that a function of the schema returns that takes a lease, and may be called again.

        Raises:
            LeaseLost: the lease's epoch is not the partition's.
        """
        return (await self.guarded_by([lease], sql, lease.partition, *values))[0]

    async def guarded_by(self, leases: Iterable[Lease], sql: str, *values: Any) -> Rows:
        """The rows that a function of the schema returns that takes leases, and may be called again.

        Raises:
            LeaseLost: one of their epochs is not the partition's.
        """
        epochs = {lease.partition: lease.epoch for lease in leases}
        while True:
            holder: Holder = self._holdings.holder_of(epochs)
            rows = await self._connections.trying(
                lambda _, holder=holder: self._connections.once(sql, holder.id, holder.fence, *values),
                leased_until=lambda holder=holder: holder.until,
            )
            if rows[0][0] is not None:
                return rows
            await self._commits.see_what_is_left(holder, epochs)
