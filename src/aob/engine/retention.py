"""Finished runs are kept for a set time, then deleted in small batches, with the blobs that only they refer to; so is
what open runs did before their checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aob import telemetry
from aob.engine.trimming import Trimming
from aob.errors import AobError
from aob.stores.rows import Lease, Swept

if TYPE_CHECKING:
    from aob.engine.host import Host

_BATCH = 100
_BETWEEN = 0.05
_DAY_US = 86_400 * 1_000_000


async def sweep_for_ever(host: Host) -> None:
    """Look for finished runs that are old enough, every `sweep_every` seconds."""
    settings = host.settings
    trimming = Trimming(host)
    while settings.retention_days > 0 and host.failed is None:
        await sweep(host)
        await trimming.trim(retained_since(host))
        await host.clock.sleep(settings.sweep_every)


def retained_since(host: Host) -> int:
    """What is older than this is deleted; microseconds since 1970."""
    return host.clock.now_us() - round(host.settings.retention_days * _DAY_US)


async def sweep(host: Host) -> int:
    """Delete what is old enough now; how many runs it were. Other work goes on between the batches."""
    before = retained_since(host)
    total = 0
    try:
        for partition in list(host.commits.leases):
            while count := await _sweep(host, partition, before):
                total += count  # what was started by these may go as well
    except AobError as e:
        if host.failed is None:
            telemetry.tell("sweep_failed", error=e)
    if total:
        telemetry.tell("swept", runs=total)
    return total


async def _sweep(host: Host, partition: int, before: int) -> int:
    """Look once at every run of a partition that is old enough; how many were deleted."""
    total, after = 0, (0, 0)
    while host.owns(partition):

        async def look(lease: Lease, behind: tuple[int, int] = after) -> Swept:
            return await host.store.sweep(lease, before, _BATCH, behind, host.residents.in_use(partition))

        swept = await host.commits.alone(partition, look)
        total += swept.runs
        if swept.after is None:
            break
        after = swept.after
        await host.clock.sleep(_BETWEEN)
    return total
