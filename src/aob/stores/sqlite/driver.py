"""The part of apsw that is used, with types that hold on every Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import apsw

from aob.errors import StoreUnavailable

OLDEST = (3, 51, 3)
"""An older SQLite can corrupt a write-ahead log that several connections use."""


class Rows(Protocol):
    """What a statement returned."""

    def fetchall(self) -> list[tuple[Any, ...]]: ...
    def fetchone(self) -> tuple[Any, ...] | None: ...


class Connection(Protocol):
    """A connection to one file. Transactions are begun and ended by hand."""

    in_transaction: bool
    system_errno: int

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows: ...
    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows: ...
    def pragma(self, name: str, /) -> Any: ...
    def close(self) -> None: ...
    def changes(self) -> int: ...
    def total_changes(self) -> int: ...
    def last_insert_rowid(self) -> int: ...
    def data_version(self) -> int: ...
    def db_filename(self, schema: str, /) -> str: ...
    def config(self, option: int, value: int, /) -> int: ...
    def set_busy_handler(self, handler: Callable[[int], bool] | None, /) -> None: ...
    def set_busy_timeout(self, milliseconds: int, /) -> None: ...
    def set_wal_hook(self, hook: Callable[[Any, str, int], int] | None, /) -> None: ...
    def wal_autocheckpoint(self, pages: int, /) -> None: ...
    def wal_checkpoint(
        self, schema: str | None = None, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE
    ) -> tuple[int, int]: ...


def connect(path: str, *, readonly: bool = False, vfs: str | None = None) -> Connection:
    """Open a file; it is made when it is not there, unless `readonly`.

    Raises:
        StoreUnavailable: this SQLite is known to lose data.
        apsw.Error: the file cannot be opened.
    """
    refuse_old_sqlite(apsw.sqlite_lib_version())
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    return cast("Connection", apsw.Connection(path, flags=flags, vfs=vfs))


def refuse_old_sqlite(version: str) -> None:
    """See that this SQLite can be trusted.

    Raises:
        StoreUnavailable: it can corrupt its log when several connections write.
    """
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST:
        wanted = ".".join(str(part) for part in OLDEST)
        raise StoreUnavailable(
            f"SQLite {version} can corrupt its log when several processes write; aob needs {wanted} or later: "
            "install the apsw wheel, which brings its own (pip install --upgrade apsw)"
        )
