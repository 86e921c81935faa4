"""Opening a file: is it ours, is it whole, is its schema the one we know."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from aob.errors import BadUrl, StoreUnavailable
from aob.process import FileLock, pause
from aob.stores.sqlite import faults, wal
from aob.stores.sqlite.driver import Connection, connect
from aob.stores.sqlite.migrate import changed_schema, migrate, refuse_others, schema_version
from aob.stores.sqlite.options import SqliteOptions

PRAGMAS = ("synchronous = full", "foreign_keys = off", "temp_store = memory")
_STEP = 0.01


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
            # a log that may hold what the file has lost is evidence: closing must not fold it in and delete it
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
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
    refuse_others(connection)
    if os.path.getsize(path) == 0:
        connection.execute("pragma page_size = 16384")
    _use_log(connection, options.busy_timeout)
    for pragma in (*PRAGMAS, f"cache_size = -{options.cache_kib}"):
        connection.execute(f"pragma {pragma}")
    if options.check != "never":
        _check(connection, path, options)
    migrate(connection)
    if options.check != "never" and (changed := changed_schema(connection)):
        raise faults.corrupt(path, f"the definition of {changed} is not what was written")


def _use_log(connection: Connection, patience: float) -> None:
    # SQLite does not wait here when another process makes the same file at the same time
    for _ in range(max(1, int(patience / _STEP))):
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except apsw.BusyError:
            pause(_STEP)
    connection.execute("pragma journal_mode = wal")


def _check(connection: Connection, path: str, options: SqliteOptions) -> None:
    if found := wal.damage(connection, path):
        raise faults.corrupt(path, found)
    small = os.path.getsize(path) <= options.check_up_to
    if small or options.check == "always" or _stopped_badly(connection, path):
        found = connection.execute("pragma quick_check(1)").fetchall()[0][0]
        if found != "ok":
            raise faults.corrupt(path, found)


def _stopped_badly(connection: Connection, path: str) -> bool:
    """Whether an owner neither released its partition nor is alive."""
    if not schema_version(connection):
        return False
    for (partition,) in connection.execute("select id from partition where not released and locked").fetchall():
        lock = FileLock(owner_lock(path, partition))
        if lock.take():
            lock.drop()
            return True
    return False


def owner_lock(path: str, partition: int) -> str:
    """The lock file of a partition's owner."""
    return f"{path}-owner{partition or ''}"
