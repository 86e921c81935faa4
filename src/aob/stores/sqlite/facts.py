"""What can be told about a SQLite store: its version, owner and sizes."""

from __future__ import annotations

import os
import shutil

import apsw

from aob.clock import Clock
from aob.process import FileLock
from aob.stores.facts import StoreFacts
from aob.stores.sqlite.migrate import migrations
from aob.stores.sqlite.opening import owner_lock
from aob.stores.sqlite.reads import Reads

_OWNER = "select owner, epoch, expires, locked, released from partition where id = ?"


def facts_of(reads: Reads, path: str, clock: Clock, partition: int = 0) -> StoreFacts:
    """How the store is doing."""
    owner, epoch, expires, locked, released = (reads.rows(_OWNER, (partition,)) or [(None, 0, 0.0, 0, 1)])[0]
    in_time = not released and clock.monotonic() < expires
    return StoreFacts(
        engine=f"SQLite {apsw.sqlite_lib_version()}", path=path, schema=reads.rows("pragma user_version")[0][0],
        newest_schema=max(migrations()), owner=owner,
        owner_lives=in_time and not (locked and _is_free(owner_lock(path, partition))), released=bool(released),
        epoch=epoch, bytes_used=_size(path), bytes_in_log=_size(f"{path}-wal"),
        bytes_free=shutil.disk_usage(os.path.dirname(path)).free,
    )  # fmt: skip


def _is_free(path: str) -> bool:
    lock = FileLock(path)
    free = lock.take()
    lock.drop()
    return free


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
