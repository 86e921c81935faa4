"""The driver, asyncpg, with types: nothing else imports it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

Rows = list[Any]
Heard = Callable[[object, int, str, str], None]

DatabaseError: type[Exception] = asyncpg.PostgresError
"""What the database answered instead of a result; the connection may still be good."""

ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
)
"""All that a statement can fail with."""


class Connection(Protocol):
    """A connection, as far as it is used here."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> Rows: ...
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...
    async def close(self) -> None: ...
    async def add_listener(self, channel: str, callback: Heard) -> None: ...
    def add_termination_listener(self, callback: Callable[[object], None]) -> None: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...
    def terminate(self) -> None: ...
    def is_closed(self) -> bool: ...
    def get_server_pid(self) -> int: ...


async def connect(dsn: str, timeout: float, statements: int) -> Connection:
    """Connect.

    Args:
        statements: how many prepared ones are kept; 0: none is made.
    """
    open_one = cast("Any", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
    return await open_one(
        dsn, timeout=timeout, statement_cache_size=statements, max_cached_statement_lifetime=0,
        server_settings={"application_name": "aob"},
    )  # fmt: skip


def is_closed(error: BaseException) -> bool:
    """Whether the driver says that the connection is gone, or no longer makes sense."""
    if isinstance(error, asyncpg.InterfaceError):
        return any(word in str(error) for word in ("closed", "closing", "released"))
    return isinstance(error, asyncpg.InternalClientError)


def severity(error: BaseException) -> str:
    """How bad the database calls it, in English: ERROR is the statement's end, FATAL the connection's, PANIC the
    server's; empty where the database did not say it."""
    return str(getattr(error, "severity_en", None) or "")


def violated(error: BaseException) -> str:
    """The name of the unique index that refused a row; empty for another error."""
    return str(getattr(error, "constraint_name", "")) if isinstance(error, asyncpg.UniqueViolationError) else ""


def is_integrity(error: BaseException) -> bool:
    """Whether a row was refused for what is there already."""
    return isinstance(error, asyncpg.IntegrityConstraintViolationError)
