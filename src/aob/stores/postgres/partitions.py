"""To how many partitions runs that start are hashed, as this process knows it, and how they are spread over workers.

Somebody may raise the number while all run. Nothing depends on knowing it at once: a run's partition stands in its row,
and its id is unique whatever it was hashed to; so whoever knows the number of a moment ago is right as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from aob.clock import Clock
from aob.errors import NotSupported, StoreUnavailable
from aob.stores.facts import Share, Spread
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import LANES, RunRow, partition_of

MOST = 1 << 14
"""More would make every worker's leases too many to renew in one statement."""
_HASHED = f"id < {LANES}"
_FRESH = 1.0
_RAISE = """
insert into aob.partition (id) select generate_series(0, $1::integer - 1) on conflict (id) do nothing
"""
_SPREAD = f"""
select w.name, w.build, count(*) filter (where p.{_HASHED}), count(*) filter (where not p.{_HASHED})
from aob.partition p left join aob.worker w on w.id = p.owner and w.expires > aob.now_us() group by w.id
order by w.name nulls last
"""


class Partitions:
    """How many there are."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._looked: float | None = None
        self.count = 1
        schema = connections.options.schema
        self._count = in_schema(f"select count(*) from aob.partition where {_HASHED}", schema)
        self._raise = in_schema(_RAISE, schema)
        self._spread = in_schema(_SPREAD, schema)

    def learned(self, count: int) -> None:
        """The database said how many there are."""
        self.count = count
        self._looked = self._clock.monotonic()

    async def look(self) -> None:
        """Ask the database how many there are."""
        ((count,),) = await self._connections.rows(self._count)
        self.learned(count)

    async def settle(self, starts: Iterable[RunRow]) -> None:
        """Before runs start: what is known here of the number is a second old at most, and theirs are of that."""
        before = self.count
        if self._looked is None or self._clock.monotonic() - self._looked >= _FRESH:
            await self.look()
        if self.count != before:
            for start in starts:
                if start.partition == partition_of(start.tenant, start.run_id, before):
                    start.partition = partition_of(start.tenant, start.run_id, self.count)

    async def spread(self) -> Spread:
        """See `aob.stores.facts.Divided`."""
        shares = [Share(*row) for row in await self._connections.rows(self._spread)]
        return Spread(
            partitions=sum(share.partitions for share in shares), lanes=sum(share.lanes for share in shares),
            free=sum(share.partitions for share in shares if share.worker is None),
            shares=[share for share in shares if share.worker is not None],
        )  # fmt: skip

    async def raise_to(self, count: int) -> int:
        """See `aob.stores.facts.Divided`."""
        await self.look()
        before = self.count
        if count < before:
            raise NotSupported(
                f"{self._connections.name} has {before} partitions, and cannot have less: runs live in each of them"
            )
        if count > MOST:
            raise NotSupported(f"{count:,} partitions are too many: {MOST:,} at most")
        if count > before:
            await self._refuse_without_rights(count)
            await self._connections.rows(self._raise, count)
            await self.look()
        return before

    async def _refuse_without_rights(self, count: int) -> None:
        ((may,),) = await self._connections.rows(
            "select has_table_privilege($1::text, 'insert')", f'"{self._connections.options.schema}".partition'
        )
        if not may:
            raise StoreUnavailable(
                f"{self._connections.name}: this login may not make partitions; as the owner of the schema run "
                f"aob db partitions {count}"
            )
