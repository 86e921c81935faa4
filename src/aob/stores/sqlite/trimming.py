"""Deleting the history of open runs before their checkpoints: a gap stands in its place."""

from __future__ import annotations

from collections.abc import Sequence

from aob.stores.chain import GAP, gap_data
from aob.stores.rows import Cut, Lease
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.driver import Connection
from aob.stores.sqlite.writer import Writer

_OPEN = "select origin_seq from run where key = ? and partition = ? and ended is null and checkpoint >= ?"
_SHARED = "select ifnull(max(origin_seq), 0) from run where origin = ?"
_OLD = f"select seq from event where run = ? and seq > ? and seq <= ? and kind <> '{GAP}' order by seq limit ?"
_FORGET = "delete from checkpoint where position in (select position from event where run = ? and seq > ? and seq <= ?)"
_UNUSED = """
    delete from blob_use where run = ?1 and seq <= ?3
    and not exists (select 1 from event where run = ?1 and seq <= ?2 and instr(data, cast(blob_use.digest as blob)))
    and not exists (
        select 1 from run join ticket using (tenant, run_id)
        where run.key = ?1 and instr(ticket.data, cast(blob_use.digest as blob))
    )
    returning digest
"""


class Trimming:
    """Deletions from histories, under a lease."""

    def __init__(self, writer: Writer, commits: Commits) -> None:
        self._writer = writer
        self._commits = commits
        self._connection: Connection = writer.connection

    async def trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        """See `Store.trim`."""
        return await self._writer.run(lambda: self._trim(lease, cuts, limit))

    def _trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        self._commits.guard(lease.partition, lease.epoch)
        total = 0
        for cut in cuts:
            found = self._connection.execute(_OPEN, (cut.run, lease.partition, cut.checkpoint)).fetchall()
            if found and total < limit:
                keep = max(1, found[0][0], self._shared(cut.run))
                total += self._cut(cut.run, keep, cut.until, limit - total)
        return total

    def _shared(self, key: int) -> int:
        """Up to which `seq` forks share the run's events."""
        return self._connection.execute(_SHARED, (key,)).fetchall()[0][0]

    def _cut(self, key: int, keep: int, until: int, limit: int) -> int:
        """Delete the first events behind `keep`; how many it were."""
        execute = self._connection.execute
        old = execute(_OLD, (key, keep, until, limit)).fetchall()
        if not old:
            return 0
        last = old[-1][0]
        ((chain, data),) = execute("select chain, data from event where run = ? and seq = ?", (key, last)).fetchall()
        execute(_FORGET, (key, keep, last))
        execute("delete from event where run = ? and seq > ? and seq < ?", (key, keep, last))
        execute(
            "update event set kind = ?, version = 1, data = ? where run = ? and seq = ?",
            (GAP, gap_data(keep + 1, last, chain, data), key, last),
        )
        self._connection.executemany(
            "delete from blob where digest = ? and not exists (select 1 from blob_use where digest = blob.digest)",
            execute(_UNUSED, (key, keep, last)).fetchall(),
        )
        return len(old)
