"""What can be set about a SQLite store."""

from __future__ import annotations

from typing import Literal

import msgspec


class SqliteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a SQLite store; the defaults suit nearly everybody.

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
    check_up_to: int = 64 * 1024 * 1024
    slow_commit: float = 0.002
    checkpoint_pages: int = 1000
    cache_kib: int = 16 * 1024
    poll: float = 0.5
    vfs: str | None = None
