"""Postgres' errors as aob's, each with what to do about it; and which of them another try may mend."""

from __future__ import annotations

from aob.errors import OperatorError, StoreCorrupt, StoreFull, StoreLocked, StoreUnavailable
from aob.stores.postgres import driver

_LOST = ("08", "57P", "25006", "40003", "53300")
_IN_THE_WAY = ("40001", "40P01", "55P03", "57014")
_FULL = ("53100", "53400")
_CRASHING = ("PANIC", "FATAL")
_NO_RESOURCES = ("53", "58030")
_RIGHTS = "42501"
_MISSING = ("3F000", "42P01", "42883", "42703")
_DAMAGED = ("XX001", "XX002", "58P01")
_LOGIN = ("28", "3D000")


def code_of(error: BaseException) -> str:
    """The error's SQLSTATE; empty where the database did not say it."""
    return str(getattr(error, "sqlstate", None) or "")


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or leads to a server that cannot write: what was sent may have been done."""
    if isinstance(error, OSError | EOFError | TimeoutError):
        return True
    if driver.is_closed(error):
        return True
    if driver.severity(error) in _CRASHING and code_of(error).startswith(_NO_RESOURCES):
        return True  # the server ends over it, maybe when the commit was on the disk already
    return code_of(error).startswith(_LOST)


def is_starting(error: BaseException) -> bool:
    """Whether a server is there that takes no connections yet, or any more."""
    return code_of(error) == "57P03"


def may_go_better(error: BaseException) -> bool:
    """Whether the statement failed whole because of what others did at that moment."""
    return code_of(error) in _IN_THE_WAY


def passes(error: BaseException) -> bool:
    """Whether the statement failed whole, because of others or for want of space, and may succeed later."""
    return may_go_better(error) or code_of(error) in _FULL


def undecided(name: str, error: BaseException) -> StoreUnavailable:
    """The connection was lost, and since then nothing can be done that tells what came of it."""
    return StoreUnavailable(f"{name}: what was sent when the connection was lost may have been done or not ({error})")


def unreachable(name: str, error: BaseException) -> StoreUnavailable:
    """Nobody answers."""
    why = str(error) or type(error).__name__
    return StoreUnavailable(f"{name} cannot be reached ({why}); see that the server runs and that the address is right")


def translated(error: BaseException, name: str) -> OperatorError:
    """An error of Postgres or its driver as ours."""
    code = code_of(error)
    if code in _FULL:
        return StoreFull(f"no space left for {name}: nothing was written; free some space, and work goes on by itself")
    if code in _IN_THE_WAY:
        return StoreLocked(f"{name}: others held a statement up for too long ({error}); see pg_locks for who does")
    if code == _RIGHTS:
        return StoreUnavailable(f"{name}: {error}; aob db check lists what is missing")
    if code in _MISSING:
        return StoreUnavailable(
            f"{name}: its schema is not what it should be ({error}); aob db check lists what is missing"
        )
    if code in _DAMAGED:
        return StoreCorrupt(f"{name} is damaged: {error}; stop every process that uses it, and restore a backup")
    if driver.is_integrity(error):
        return StoreCorrupt(f"{name}: what is about to be written is there already ({error}); nothing was written")
    if code.startswith(_LOGIN):
        return StoreUnavailable(f"{name} refuses the login: {error}")
    if is_lost(error):
        return unreachable(name, error)
    return StoreUnavailable(f"{name} cannot be used: {error}")
