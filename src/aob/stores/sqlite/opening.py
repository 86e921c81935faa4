"""Opening a file: is it ours, is it whole, is its schema the one we know."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from aob.errors import BadUrl, StoreUnavailable
from aob.process import FileLock
from aob.stores.sqlite import faults
from aob.stores.sqlite.driver import Connection, connect
from aob.stores.sqlite.migrate import migrate, schema_version
from aob.stores.sqlite.options import SqliteOptions


def path_of(url: str) -> str:
    """The file that a URL names: `sqlite:///relative.db`, `sqlite:////absolute.db`.

    Raises:
        BadUrl: it names none.
    """
    path = url.removeprefix("sqlite:///")
    if path == url or path in ("", "/") or path.startswith(":"):
        raise BadUrl(f"{url!r} names no file: write sqlite:///relative.db, sqlite:////absolute/path.db, or sqlite://")
    return os.path.realpath(path)


def open_connections(path: str, options: SqliteOptions) -> tuple[Connection, Connection]:
    """The writing and the reading connection of a file, which is made when it is not there.

    Raises:
        OperatorError: it cannot be used; what to do.
    """
    if not Path(path).parent.is_dir():
        raise StoreUnavailable(f"the directory of {path} does not exist; make it, or name another file")
    opened: list[Connection] = []
    try:
        writing = _connect(path, options)
        opened.append(writing)
        _prepare(writing, path, options)
        reading = _connect(path, options, readonly=True)
        opened.append(reading)
        reading.execute("pragma query_only = 1")
        schema_version(reading)
    except BaseException as e:
        for connection in opened:
            connection.close()
        if isinstance(e, apsw.Error):
            raise faults.translated(e, path, options.busy_timeout) from e
        raise
    return writing, reading


def _connect(path: str, options: SqliteOptions, *, readonly: bool = False) -> Connection:
    connection = connect(path, readonly=readonly, vfs=options.vfs)
    connection.set_busy_timeout(int(options.busy_timeout * 1000))
    return connection


def _prepare(connection: Connection, path: str, options: SqliteOptions) -> None:
    if os.path.getsize(path) == 0:
        connection.execute("pragma page_size = 16384")
    for pragma in (
        "journal_mode = wal",
        "synchronous = full",
        "foreign_keys = off",
        "temp_store = memory",
        f"cache_size = -{options.cache_kib}",
    ):
        connection.execute(f"pragma {pragma}")
    if schema_version(connection) and _to_check(connection, path, options):
        found = connection.execute("pragma quick_check(1)").fetchall()
        if found != [("ok",)]:
            raise faults.corrupt(path, found[0][0])
    migrate(connection)


def _to_check(connection: Connection, path: str, options: SqliteOptions) -> bool:
    if options.check != "auto":
        return options.check == "always"
    return os.path.getsize(path) <= options.check_up_to or _stopped_badly(connection, path)


def _stopped_badly(connection: Connection, path: str) -> bool:
    """Whether an owner neither released its partition nor is alive."""
    for (partition,) in connection.execute("select id from partition where not released and locked").fetchall():
        lock = FileLock(owner_lock(path, partition))
        if lock.take():
            lock.drop()
            return True
    return False


def owner_lock(path: str, partition: int) -> str:
    """The lock file of a partition's owner."""
    return f"{path}-owner{partition or ''}"
