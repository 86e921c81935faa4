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


@runtime_checkable
class Inspectable(Protocol):
    """A store that can be looked at."""

    async def facts(self) -> StoreFacts:
        """How the store is doing."""
        ...

    async def check(self, at_most: int = 100) -> list[str]:
        """Read everything; what is wrong with it, a line each."""
        ...
