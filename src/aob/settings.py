"""One frozen tree of settings: name, environment variable, default, help. Nothing else reads the environment."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from aob.errors import CallerError


class BadSetting(CallerError):
    """A setting has a value that cannot be."""

    code = "bad_setting"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Each can be given in code, or as `AOB_` + its name in upper case.

    Times are in seconds, sizes in bytes unless the name says otherwise.
    """

    store: str = "sqlite:///aob.db"
    tenant: str = "default"
    lease_ttl: float = 5.0
    build: str = ""
    blocked_after: float = 10.0
    blob_over: int = 64 * 1024
    threads: int = 32
    max_attempts_in_flight: int = 10_000
    resident_runs: int = 2_000
    evict_after: float = 10.0
    long_step_after: float = 3.0
    max_deaths: int = 3
    retention_days: float = 30.0
    sweep_every: float = 60.0
    slow_commit_ms: float = 2.0
    drain_timeout: float = 10.0
    check_over_mb: int = 200


HELP: dict[str, str] = {
    "store": "where runs live: sqlite:///path, sqlite:// (in memory)",
    "tenant": "the tenant of calls that name none",
    "lease_ttl": "how long a worker's lease on a partition lasts without renewal",
    "build": "the build of the code that a worker serves, such as a commit's short hash",
    "blocked_after": "a workflow turn that runs longer than this is reported with its stack; 0: never",
    "blob_over": "values larger than this go to the blob store",
    "threads": "threads for activities that are a plain def",
    "max_attempts_in_flight": "attempts that one process runs at the same time",
    "resident_runs": "waiting runs kept in memory; more are evicted and come back on their event",
    "evict_after": "a run that waits longer than this may leave memory",
    "long_step_after": "a step that runs longer than this records its start",
    "max_deaths": "a run whose worker died with it this often, without progress, is parked",
    "retention_days": "finished runs, and what open ones did before a checkpoint, go after this many days; 0: never",
    "sweep_every": "how often the retention looks for runs to delete",
    "slow_commit_ms": "commits slower than this move to a thread of their own",
    "drain_timeout": "how long a worker that stops waits for the attempts it runs",
    "check_over_mb": "stores above this size are checked at open only after an unclean stop",
}


def load(**given: Any) -> Settings:
    """Settings from the arguments, else the environment, else the defaults.

    Raises:
        BadSetting: a value does not fit.
    """
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        variable = f"AOB_{field.name.upper()}"
        if given.get(field.name) is not None:
            values[field.name] = given[field.name]
        elif variable in os.environ:
            try:
                values[field.name] = msgspec.convert(os.environ[variable], field.type, strict=False)
            except msgspec.ValidationError as e:
                raise BadSetting(f"{variable}={os.environ[variable]!r}: {e}") from e
    return Settings(**values)
