"""Deleting the history of open runs before their checkpoints, under a lease: a gap stands in its place."""

from __future__ import annotations

from collections.abc import Sequence

from aob.stores.chain import gap_data
from aob.stores.postgres.reads import Reads
from aob.stores.postgres.removal import Removal
from aob.stores.rows import Cut, Lease


class Trimming:
    """Looks what is old, makes the gaps, and has a function of the schema delete it all at once. Meanwhile nobody
    but the lease's owner changes these runs."""

    def __init__(self, reads: Reads, removal: Removal) -> None:
        self._reads = reads
        self._removal = removal
        self._old = reads.sql("select * from aob.old_1($1, $2, $3, $4, $5)")
        self._trim = reads.sql("select aob.trim_1($1, $2, $3, $4, $5, $6, $7)")

    async def trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        """See `Store.trim`."""
        runs, checkpoints, untils = ([c.run for c in cuts], [c.checkpoint for c in cuts], [c.until for c in cuts])
        old = await self._reads.rows(self._old, lease.partition, runs, checkpoints, untils, limit)
        gaps = [gap_data(keep + 1, last, chain, data) for _, keep, last, chain, data, _ in old]
        keys, keeps, lasts = ([row[column] for row in old] for column in range(3))
        await self._removal.guarded(lease, self._trim, keys, keeps, lasts, gaps)
        return sum(row[5] for row in old)
