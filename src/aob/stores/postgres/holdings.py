"""What this process holds: its leases, and what it knows of each partition that nobody else may change."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from aob.clock import Clock
from aob.errors import LeaseLost
from aob.stores.rows import Lease


class Holder(msgspec.Struct):
    """One owner's row in the table of workers.

    Args:
        fence: what its commits say, so that those of another time are refused.
        mark: messages of transactions below this were seen.
        told: messages that were handed out and not taken yet, and their partitions.
        until: when its leases end, by the monotonic clock, counted from before they were asked for.
    """

    id: int
    fence: int
    mark: int = 0
    told: dict[int, int] = {}
    until: float = 0.0


class Held(msgspec.Struct):
    """A partition that is held, and the last position in it."""

    holder: Holder
    epoch: int
    position: int


class Holdings:
    """All leases of a store."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.holders: dict[str, Holder] = {}
        self.changes = 0
        self._known: dict[int, int] | None = None
        self._known_holder: Holder | None = None

    def took(self, lease: Lease, worker: int, fence: int, position: int, until: float) -> None:
        """A lease was given."""
        holder = self.holders.get(lease.owner)
        if holder is None or holder.id != worker:
            holder = self.holders[lease.owner] = Holder(worker, fence)
        holder.fence, holder.until = fence, max(holder.until, until)
        holder.mark = 0  # what waited before is to be seen
        self.held[lease.partition] = Held(holder, lease.epoch, position)
        _forget(holder, {lease.partition})
        self._changed()

    def dropped(self, partitions: Iterable[int]) -> None:
        """These are held no more."""
        gone = set(partitions)
        for partition in gone:
            self.held.pop(partition, None)
        for holder in self.holders.values():
            _forget(holder, gone)
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._known = None

    def holder_of(self, epochs: dict[int, int]) -> Holder:
        """Whose these partitions are.

        Raises:
            LeaseLost: one of them is not held here under that epoch.
        """
        if epochs is self._known and self._known_holder is not None:
            return self._known_holder
        holder: Holder | None = None
        for partition, epoch in epochs.items():
            held = self.held.get(partition)
            if held is None or held.epoch != epoch or (holder is not None and held.holder is not holder):
                raise lost(partition, epoch)
            holder = held.holder
        if holder is None:
            raise LeaseLost("a commit must name the partitions that it is for")
        self._known, self._known_holder = epochs, holder
        return holder

    def all_of(self, owner: str) -> list[int]:
        """What an owner holds."""
        holder = self.holders.get(owner)
        return [partition for partition, held in self.held.items() if held.holder is holder]

    def epochs_of(self, holder: Holder) -> dict[int, int]:
        """What an owner holds, with the epochs."""
        return {partition: held.epoch for partition, held in self.held.items() if held.holder is holder}

    def part_of(self, epochs: dict[int, int]) -> list[int] | None:
        """The partitions of a commit, where they are not all that are held."""
        return None if len(epochs) == len(self.held) else list(epochs)


def _forget(holder: Holder, partitions: set[int]) -> None:
    holder.told = {id: partition for id, partition in holder.told.items() if partition not in partitions}


def lost(partition: int, epoch: int) -> LeaseLost:
    """The lease is somebody else's by now."""
    return LeaseLost(f"partition {partition} is no longer held under epoch {epoch}; another process owns it now")


class Keys:
    """Draws keys for runs that start: each higher than the last, and than those drawn elsewhere before."""

    def __init__(self, clock: Clock, skew_us: Callable[[], int], tag: int) -> None:
        self._clock = clock
        self._skew_us = skew_us
        self._tag = tag & 1023
        self._last = 0

    def draw(self) -> int:
        """A fresh key: microseconds since 1970, and 10 bits that tell this process from others."""
        self._last = max(self._clock.now_us() + self._skew_us(), self._last + 1)
        return self._last << 10 | self._tag

    def change(self) -> None:
        """Another process draws with the same 10 bits."""
        self._tag = (self._tag * 5 + 7) & 1023
