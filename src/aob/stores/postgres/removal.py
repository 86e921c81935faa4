"""Deleting runs, under a lease."""

from __future__ import annotations

from typing import Any

from aob.errors import NotFinished
from aob.stores.postgres.commits import Commits
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.holdings import Holder, Holdings
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import Lease


class Removal:
    """Deletions; the schema's functions see that nothing goes that somebody still needs."""

    def __init__(self, connections: Connections, holdings: Holdings, commits: Commits) -> None:
        self._connections = connections
        self._holdings = holdings
        self._commits = commits
        schema = connections.options.schema
        self._sweep = in_schema("select aob.sweep_1($1, $2, $3, $4, $5)", schema)
        self._delete = in_schema("select aob.delete_1($1, $2, $3, $4)", schema)
        self._id = in_schema("select run_id from aob.run where key = $1", schema)

    async def sweep(self, lease: Lease, ended_before: int, limit: int) -> int:
        """See `Store.sweep`."""
        return await self.guarded(lease, self._sweep, ended_before, limit)

    async def delete(self, lease: Lease, key: int) -> None:
        """See `Store.delete_run`."""
        if await self.guarded(lease, self._delete, key) == "open":
            found = await self._connections.rows(self._id, key)
            raise NotFinished(
                "only a run that has ended can be deleted; cancel or terminate it first",
                run_id=found[0][0] if found else None,
            )

    async def guarded(self, lease: Lease, sql: str, *values: Any) -> Any:
        """What a function of the schema returns that takes a lease, and may be called again.

        Raises:
            LeaseLost: the lease's epoch is not the partition's.
        """
        epochs = {lease.partition: lease.epoch}
        while True:
            holder: Holder = self._holdings.holder_of(epochs)
            rows = await self._connections.trying(
                lambda _, holder=holder: self._connections.once(sql, holder.id, holder.fence, lease.partition, *values),
                leased_until=lambda holder=holder: holder.until,
            )
            if rows[0][0] is not None:
                return rows[0][0]
            await self._commits.see_what_is_left(holder, epochs)
