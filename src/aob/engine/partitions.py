"""Which partitions are this process's to work on: a fair share of them, as many as it has leases for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aob.errors import LeaseLost
from aob.stores.protocol import Store
from aob.stores.rows import WorkerRow


class NotOwner(LeaseLost):
    """This process does not own the run's partition; nothing was written. Whoever asked sends a message instead."""


class Moved(LeaseLost):
    """The run moved to another partition, and what was sent to it comes again there."""


class Pool(msgspec.Struct):
    """Partitions that some workers share evenly.

    Args:
        build: of these lanes; None: what is nobody's lane.
        size: how many there are.
        workers: who shares them, each with how many of them it holds.
        held: those that this worker holds.
    """

    build: str | None
    size: int
    workers: list[WorkerRow]
    held: set[int]

    def too_few(self, worker: str) -> int:
        """How many more this worker is to hold; less than none: how many it is to give."""
        return fair_share(self.size, self.workers, worker) - len(self.held)


def pools(store: Store, build: str, workers: Sequence[WorkerRow], worker: str, held: set[int]) -> list[Pool]:
    """What a worker shares with others: ordinary partitions with all that do not drain, and the lanes of its build with
    all of that build."""
    lanes = store.lanes
    own = set(lanes.get(build, ())) if build else set[int]()
    others = {lane for name, ids in lanes.items() if name for lane in ids}
    ordinary = Pool(
        None, store.partitions + len(lanes.get("", ())), [w for w in workers if not w.draining], held - others - own
    )
    if any(w.draining for w in workers if w.name == worker):
        ordinary.size, ordinary.workers = 0, []
    same = [WorkerRow(name=w.name, partitions=w.lanes) for w in workers if w.build == build]
    strange = Pool(None, 0, [], held & others - own)
    return [ordinary, Pool(build, len(own), same, held & own), strange]


def fair_share(partitions: int, workers: Sequence[WorkerRow], worker: str) -> int:
    """How many partitions a worker is to hold, of all that live. The shares add up to all partitions; where they do not
    come out even, those that hold most already keep one more, so that nothing moves for nothing."""
    names = [row.name for row in sorted(workers, key=lambda row: (-row.partitions, row.name))]
    if worker not in names:
        names.append(worker)
    each, more = divmod(partitions, len(names))
    return each + (names.index(worker) < more)
