"""Builds of the code, their lanes, and the runs that move into these."""

from __future__ import annotations

from collections.abc import Sequence

from aob.stores.postgres.connections import Connections
from aob.stores.postgres.removal import Removal
from aob.stores.postgres.statements import in_schema
from aob.stores.rows import BuildRow, Move


class Builds:
    """What a store knows of builds."""

    def __init__(self, connections: Connections, removal: Removal) -> None:
        self._connections = connections
        self._removal = removal
        schema = connections.options.schema
        self._all = in_schema("select * from aob.builds_1()", schema)
        self._retired = in_schema("select name from aob.build where retired", schema)
        self._retire = in_schema("select aob.retire_1($1)", schema)
        self._drain = in_schema(
            "insert into aob.build (name, draining) values ($1, $2) "
            "on conflict (name) do update set draining = excluded.draining", schema,
        )  # fmt: skip
        self._make = in_schema("select aob.lanes_1($1, $2)", schema)
        self._move = in_schema("select * from aob.move_1($1, $2, $3, $4, $5, $6)", schema)

    async def all(self) -> list[BuildRow]:
        """See `Store.builds`."""
        return [
            BuildRow(name=name, workers=workers, runs=runs, draining=draining, retired=retired)
            for name, workers, runs, draining, retired in await self._connections.rows(self._all)
        ]

    async def retired(self) -> set[str]:
        """See `Store.retired`."""
        return {name for (name,) in await self._connections.rows(self._retired)}

    async def retire(self, build: str) -> None:
        """See `Store.retire`."""
        await self._connections.rows(self._retire, build)

    async def drain(self, build: str, on: bool) -> None:
        """See `Store.drain`."""
        await self._connections.rows(self._drain, build, on)

    async def make_lanes(self, build: str, count: int) -> None:
        """See `Store.make_lanes`."""
        await self._connections.rows(self._make, build, count)

    async def move(self, moves: Sequence[Move], build: str) -> None:
        """See `Store.move`."""
        leases, keys, lanes = zip(*moves, strict=True)
        partitions = [lease.partition for lease in leases]
        moved = await self._removal.guarded_by(leases, self._move, keys, partitions, lanes, build)
        self._removal.gone([id for (id,) in moved])
