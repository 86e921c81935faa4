"""Which partitions are this process's to work on: a fair share of them, as many as it has leases for."""

from __future__ import annotations

from collections.abc import Sequence

from aob.errors import LeaseLost
from aob.stores.rows import WorkerRow


class NotOwner(LeaseLost):
    """This process does not own the run's partition; nothing was written. Whoever asked sends a message instead."""


def fair_share(partitions: int, workers: Sequence[WorkerRow], worker: str) -> int:
    """How many partitions a worker is to hold, of all that live. The shares add up to all partitions; where they do not
    come out even, those that hold most already keep one more, so that nothing moves for nothing."""
    names = [row.name for row in sorted(workers, key=lambda row: (-row.partitions, row.name))]
    if worker not in names:
        names.append(worker)
    each, more = divmod(partitions, len(names))
    return each + (names.index(worker) < more)
