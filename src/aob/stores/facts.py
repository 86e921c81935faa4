"""What a store can tell a person about itself; a backend may do without."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a store is doing.

    Args:
        engine: the database's name and version.
        path: where it is.
        schema, newest_schema: the number of its last migration, and of the last that this aob knows.
        owner: the process that owns the partitions, or owned them last (several: a line); None: nobody did yet.
        owner_lives: it holds them now.
        released: the last owner handed over in good order.
        epoch: how often a partition was taken, at most.
        bytes_used, bytes_in_log, bytes_free: of the database, of its write-ahead log, and left on the disk; None: the
            database's own business.
        lacks: what is missing for good service, such as rights of the login: a line each, with what to do.
    """

    engine: str
    path: str
    schema: int
    newest_schema: int
    owner: str | None
    owner_lives: bool
    released: bool
    epoch: int
    bytes_used: int
    bytes_in_log: int | None
    bytes_free: int | None
    lacks: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True):
    """What a worker holds.

    Args:
        worker, build: its name and the build of its code; None: what nobody holds.
        partitions: how many of those that runs are hashed to.
        lanes: how many of those that are kept for the runs of one build.
    """

    worker: str | None
    build: str | None
    partitions: int
    lanes: int = 0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How a store's partitions are spread over the workers that live.

    Args:
        partitions: how many runs are hashed to.
        free: how many of these nobody holds.
        lanes: how many there are for the runs of one build.
    """

    partitions: int
    free: int
    lanes: int = 0
    shares: list[Share] = []


@runtime_checkable
class Divided(Protocol):
    """A store with partitions, of which there can be more."""

    async def spread(self) -> Spread:
        """Who holds them."""
        ...

    async def raise_partitions(self, count: int) -> int:
        """Have so many from now on, in one transaction, while workers run: they share the new ones as they share all,
        and runs that start are hashed to all of them. How many it were before.

        Raises:
            NotSupported: it has more already, or these are too many.
        """
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A store that can be looked at."""

    async def facts(self) -> StoreFacts:
        """How the store is doing."""
        ...

    async def check(self, at_most: int = 100) -> list[str]:
        """Read everything; what is wrong with it, a line each."""
        ...
