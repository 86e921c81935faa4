"""Which partitions are this process's to work on: a fair share of them, as many as it has leases for."""

from __future__ import annotations

from aob.errors import LeaseLost


class NotOwner(LeaseLost):
    """This process does not own the run's partition; nothing was written. Whoever asked sends a message instead."""


def fair_share(partitions: int, workers: int) -> int:
    """How many partitions a worker may hold at most, where so many workers live. All of them together may hold more
    than there are, so that nothing moves for the sake of one partition."""
    return -(-partitions // max(workers, 1))
