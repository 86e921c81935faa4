"""Giving partitions to another worker while this one goes on: nothing new is begun for their runs, what is in flight
has some time to finish, then they leave memory and the leases are released. Other runs notice nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from aob import telemetry
from aob.engine.patience import patiently

if TYPE_CHECKING:
    from aob.engine.host import Host

_LOOK_AGAIN = 0.01
_EXPORT_WITHIN = 1.0
"""So long the runs of a partition stand still for the sake of its exporters, which else are given some events again."""


def quietest(host: Host, count: int, among: Collection[int]) -> list[int]:
    """Of some partitions those whose move disturbs least: with the fewest attempts in flight, then runs in memory."""
    weight = dict.fromkeys((p for p in host.commits.leases if p in among and p not in host.leaving), 0)
    for run in host.residents.all():
        if run.row.partition in weight:
            weight[run.row.partition] += 1 + 1_000 * run.busy
    return sorted(weight, key=lambda p: (weight[p], p))[:count]


async def hand_over(host: Host, partitions: Iterable[int], within: float) -> None:
    """Release these partitions, each as soon as its runs are still; after `within` seconds their attempts are
    stopped, and made again by the next owner."""
    host.leaving |= (remaining := set(partitions))
    try:
        await _hand_over(host, remaining, within)
    finally:
        host.leaving -= remaining


async def _hand_over(host: Host, remaining: set[int], within: float) -> None:
    stop_at = host.clock.monotonic() + within
    export_until = host.clock.monotonic() + min(within, _EXPORT_WITHIN)
    while remaining and host.failed is None:
        if host.clock.monotonic() >= stop_at:
            for run in host.residents.all():
                if run.row.partition in remaining and run.busy:
                    run.gone = True  # what its attempts say from here on is the next owner's to find out
                    host.dispatch.stop_attempts(run)
        await host.commits.ack()
        async with host.commits.quiet():  # a commit that is under way says the epochs of all that it began with
            exporting = host.outbox.unfinished() if host.clock.monotonic() < export_until else set[int]()
            still = remaining - _moving(host, remaining) - exporting
            await _release(host, still)
        host.leaving -= still
        remaining -= still
        if remaining:
            await host.clock.sleep(_LOOK_AGAIN)


async def _release(host: Host, still: set[int]) -> None:
    leases = [host.commits.give_up(partition) for partition in still]
    for partition in still:
        host.residents.expel(partition)
        host.outbox.give_up(partition)
    if leases:
        # what is not released stays this worker's for the others, as long as it lives, and nobody would go on with it
        await patiently(host, lambda: host.store.release(leases))
        telemetry.tell("lease_released", partitions=len(leases), held=len(host.commits.leases))


def _moving(host: Host, partitions: set[int]) -> set[int]:
    """Those partitions of which something is in flight or not committed yet."""
    runs = {run.row.partition for run in host.residents.all() if run.pending or (run.busy and not run.gone)}
    return partitions & (runs | host.commits.holding() | host.inbox.dealing_with())
