"""How a SQLite store behaves."""

from __future__ import annotations

from typing import Literal

import msgspec

from aob.settings import Settings


class SqliteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a SQLite store; `aob.settings` has those that operators set.

    Args:
        busy_timeout: seconds to wait for another process's write before `StoreLocked`.
        check: when `PRAGMA quick_check` reads the whole file at opening: `auto` (a file up to `check_up_to`, and a
            larger one when its last owner did not stop cleanly), `always`, `never`.
        check_up_to: bytes; see `check`.
        slow_commit: seconds; above this average, commits leave the event loop for a thread.
        checkpoint_pages: pages in the write-ahead log after which they are copied into the database.
        cache_kib: page cache of the writing connection.
        poll: seconds between looks for other processes' commits, where no bell rang.
        vfs: name of a registered SQLite VFS.
    """

    busy_timeout: float = 5.0
    check: Literal["auto", "always", "never"] = "auto"
    check_up_to: int = 200 * 1024 * 1024
    slow_commit: float = 0.002
    checkpoint_pages: int = 1000
    cache_kib: int = 16 * 1024
    poll: float = 0.5
    vfs: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> SqliteOptions:
        """The options that the settings ask for."""
        return cls(slow_commit=settings.slow_commit_ms / 1000, check_up_to=settings.check_over_mb * 1024 * 1024)
