"""Of a run that is open, what it did before an old checkpoint is deleted: it goes on from a later one."""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING

from aob import telemetry
from aob.errors import AobError, StoreCorrupt
from aob.kernel.events import time_of
from aob.stores.rows import Cut, EventRow, Lease

if TYPE_CHECKING:
    from aob.engine.host import Host

_PAGE = 100
_BATCH = 1_000
_BETWEEN = 0.05


class Trimming:
    """Looks at every checkpoint once, when it is old enough. Its run may have checkpointed often since: what is older
    than the retention time goes all the same."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._looked_at: dict[tuple[int, int], int] = {}

    async def trim(self, before: int) -> int:
        """Delete what open runs did before their last checkpoint that is older than this; how many events it were."""
        host = self._host
        leases = {(lease.partition, lease.epoch) for lease in host.commits.leases.values()}
        self._looked_at = {lease: self._looked_at.get(lease, 0) for lease in sorted(leases)}
        deleted = 0
        try:
            for partition, epoch in self._looked_at:
                deleted += await self._trim(partition, epoch, before)
        except AobError as e:
            if host.failed is None:
                telemetry.tell("sweep_failed", error=e)
        if deleted:
            telemetry.tell("trimmed", events=deleted)
        return deleted

    async def _trim(self, partition: int, epoch: int, before: int) -> int:
        host, lease = self._host, (partition, epoch)
        total = 0
        while host.owns(partition) and (old := await self._old(partition, self._looked_at[lease], before)):
            count = await self._delete(partition, await self._cuts(old))
            if count is None:
                break
            total += count
            self._looked_at[lease] = old[-1].position
            await host.clock.sleep(_BETWEEN)
        return total

    async def _old(self, partition: int, after: int, before: int) -> list[EventRow]:
        """The next checkpoints, in the order of their commits, as far as they are old enough."""
        page = await self._host.store.checkpoints(partition, after, _PAGE)
        return list(takewhile(lambda event: time_of(event.data) < before, page))

    async def _cuts(self, old: list[EventRow]) -> list[Cut]:
        """What goes of each run: not all that stands before the checkpoint, for that may not be contained in it."""
        cuts: list[Cut] = []
        for checkpoint in {event.run: event for event in old}.values():
            with suppress(StoreCorrupt):  # the run has ended meanwhile; if it has not, its replay will tell
                until = await self._host.residents.history.applied(checkpoint)
                cuts.append(Cut(run=checkpoint.run, checkpoint=checkpoint.seq, until=until))
        return cuts

    async def _delete(self, partition: int, cuts: list[Cut]) -> int | None:
        """How many events it were; None: not now."""
        host = self._host

        async def batch(lease: Lease) -> int:
            return -1 if host.controls.forks.under_way else await host.store.trim(lease, cuts, _BATCH)

        total = 0
        while host.owns(partition) and (count := await host.commits.alone(partition, batch)) >= 0:
            total += count
            if count < _BATCH:
                return total
            await host.clock.sleep(_BETWEEN)
        return None
