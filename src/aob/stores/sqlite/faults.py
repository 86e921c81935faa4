"""SQLite's errors as aob's, each with what to do about it."""

from __future__ import annotations

import errno

import apsw

from aob.errors import OperatorError, StoreCorrupt, StoreFailed, StoreFull, StoreLocked, StoreUnavailable

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def out_of_space(error: BaseException, system_errno: int) -> bool:
    """Whether a write met a full disk (or quota, or file size limit), so that nothing of it counts.

    Only a plain write: once a sync or the shared memory failed, nobody knows what a crash would bring back.
    """
    if isinstance(error, apsw.FullError):
        return True
    return (
        isinstance(error, apsw.IOError)
        and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE
        and system_errno in _NO_SPACE
    )


def full(path: str) -> StoreFull:
    """No space left."""
    return StoreFull(f"no space left for {path}: nothing was written; free some space, and work goes on by itself")


def failed(path: str, error: BaseException) -> StoreFailed:
    """A write that may or may not be durable."""
    return StoreFailed(
        f"a write to {path} could not be made durable ({error}); this process writes no more to it: "
        "check the disk, then restart the process, which recovers what is on disk"
    )


def corrupt(path: str, what: object) -> StoreCorrupt:
    """Damage."""
    return StoreCorrupt(
        f"{path} is damaged: {what}; stop every process that uses it, keep the file for inquiry, and restore a backup"
    )


def locked(path: str, seconds: float) -> StoreLocked:
    """Somebody else's lock."""
    return StoreLocked(
        f"another program has held the write lock of {path} for more than {seconds:g} s; "
        "find it (`fuser` names it) and end its transaction, then try again"
    )


def unavailable(path: str, error: BaseException) -> StoreUnavailable:
    """Everything else that keeps a store from being used."""
    if isinstance(error, apsw.ReadOnlyError):
        return StoreUnavailable(f"{path} cannot be written: give this user write access to the file and its directory")
    if isinstance(error, apsw.CantOpenError):
        return StoreUnavailable(
            f"{path} cannot be opened: see that its directory exists and that this user may write there, "
            "also beside the file (SQLite keeps -wal and -shm files next to it)"
        )
    return StoreUnavailable(f"{path} cannot be used: {error}")


def translated(error: apsw.Error, path: str, busy_timeout: float) -> OperatorError:
    """An error of SQLite outside a commit as ours."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return corrupt(path, error)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return locked(path, busy_timeout)
    if isinstance(error, apsw.FullError):
        return full(path)
    if isinstance(error, apsw.SQLError):
        return corrupt(path, f"its schema is not what it should be ({error})")
    if isinstance(error, apsw.ConstraintError):
        return corrupt(path, f"what is about to be written is there already ({error}); nothing was written")
    return unavailable(path, error)
