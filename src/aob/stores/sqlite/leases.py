"""Who may append to a partition: a row with an epoch, and a lock file that dies with its owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aob.clock import Clock
from aob.process import FileLock
from aob.stores.rows import Lease
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.opening import owner_lock
from aob.stores.sqlite.writer import Writer

_ROW = "select owner, epoch, expires, locked, released from partition where id = ?"


class Leases:
    """Leases of this process.

    A free lock file means that its owner is dead, so that a restart need not wait for the lease to expire. An owner
    that is paused keeps the file locked; when its lease has expired it is replaced all the same, and refused by the
    epoch.
    """

    def __init__(self, writer: Writer, commits: Commits, clock: Clock) -> None:
        self._writer = writer
        self._commits = commits
        self._clock = clock
        self._locks: dict[int, tuple[int, FileLock]] = {}
        self.builds: dict[str, str] = {}
        """The build that each owner of this process serves."""
        commits.on_lost = self.lost

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        lock = FileLock(owner_lock(self._writer.path, partition))
        locked = lock.take()
        try:
            lease = await self._writer.run(lambda: self._acquire(partition, owner, ttl, locked))
        except BaseException:
            lock.drop()
            raise
        if lease is None:
            lock.drop()
        else:
            self._let_go(partition)
            self._locks[partition] = (lease.epoch, lock)
        return lease

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """See `Store.renew`."""
        held = [(lease, self._hold_lock(lease)) for lease in leases]
        await self._writer.run(lambda: self._renew(held, ttl))

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""
        await self._writer.run(lambda: self._release(leases, clean))
        for lease in leases:
            self.lost(lease.partition, lease.epoch)

    async def retire(self, build: str) -> None:
        """See `Store.retire`."""
        sql = "insert or ignore into retired_build (name) values (?)"
        await self._writer.run(lambda: self._writer.connection.execute(sql, (build,)))

    def _hold_lock(self, lease: Lease) -> bool:
        epoch, lock = self._locks.get(lease.partition, (0, None))
        return epoch == lease.epoch and lock is not None and lock.take()

    def lost(self, partition: int, epoch: int) -> None:
        """The lease is somebody else's now: let them have the lock file."""
        if self._locks.get(partition, (0, None))[0] == epoch:
            self._let_go(partition)

    def close(self) -> None:
        """Drop the lock files; leases that were not released look like those of a dead owner."""
        for partition in list(self._locks):
            self._let_go(partition)

    def _let_go(self, partition: int) -> None:
        if held := self._locks.pop(partition, None):
            held[1].drop()

    def _acquire(self, partition: int, owner: str, ttl: float, locked: bool) -> Lease | None:
        self._commits.catch_up()
        now = self._clock.monotonic()
        row: tuple[Any, ...] | None = self._writer.connection.execute(_ROW, (partition,)).fetchone()
        epoch, clean = 1, True
        if row is not None:
            _, before, expires, was_locked, released = row
            dead = locked and was_locked
            if not (released or dead or now >= expires):
                return None
            epoch, clean = before + 1, bool(released)
        self._writer.connection.execute(
            "insert or replace into partition (id, owner, epoch, expires, locked, released, build) "
            "values (?, ?, ?, ?, ?, 0, ?)",
            (partition, owner, epoch, now + ttl, int(locked), self.builds.get(owner, "")),
        )
        self._commits.forget(partition)
        return Lease(partition=partition, owner=owner, epoch=epoch, clean=clean)

    def _renew(self, held: list[tuple[Lease, bool]], ttl: float) -> None:
        for lease, locked in held:
            self._commits.guard(lease.partition, lease.epoch)
            self._writer.connection.execute(
                "update partition set expires = ?, locked = ? where id = ?",
                (self._clock.monotonic() + ttl, int(locked), lease.partition),
            )

    def _release(self, leases: Sequence[Lease], clean: bool) -> None:
        for lease in leases:
            self._commits.forget(lease.partition)
            self._writer.connection.execute(
                "update partition set released = ?, expires = 0, epoch = epoch + 1 where id = ? and epoch = ?",
                (int(clean), lease.partition, lease.epoch),
            )
