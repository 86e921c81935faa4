"""The table of what the engine tells about itself. Logs, metrics and spans subscribe to it; nothing is computed
for nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

EVENTS: dict[str, str] = {
    "lease_taken": "this process owns more partitions now: partitions, held, epoch",
    "lease_released": "this process has handed partitions over: partitions, held",
    "lease_lost": "other processes own what this one owned: partitions, epoch",
    "standing_by": "other processes own all partitions; this one waits",
    "no_build": "the runs of pinned workflows are not pinned, for this worker declares no build: workflows",
    "build_retired": "the runs of pinned workflows are not pinned, for this build is retired: build, workflows",
    "run_parked": "a run was parked: run_id, code, reason",
    "message_unreadable": "a message was encrypted with another codec than this worker has, and waits: run_id, kind",
    "turn_blocked": "a workflow turn runs too long: run_id, seconds, stack",
    "store_locked": "another program holds the store's lock; nothing is acknowledged until it lets go",
    "store_away": "the store cannot be reached; this worker goes on by itself when it can: error",
    "renew_failed": "the leases could not be renewed just now; it is tried again while they last: error",
    "store_full": "the disk is full; nothing is acknowledged until there is space",
    "store_failed": "a write could not be made durable; this process takes no more work: error",
    "recovered": "open runs were taken over: runs, seconds",
    "swept": "finished runs were deleted after their retention: runs",
    "trimmed": "what open runs did before old checkpoints was deleted: events",
    "sweep_failed": "old runs could not be deleted; it is tried again later: error",
    "export_failed": "an exporter failed, and is given the same events again: exporter, error, seconds (until then)",
    "attempt_leaked": "an attempt did not stop when it was told to: run_id, step",
}
"""Name and meaning of every event."""

Subscriber = Callable[[str, Mapping[str, Any]], None]
_subscribers: list[Subscriber] = []
_log = logging.getLogger("aob")
_LEVELS = {
    "no_build": logging.WARNING,
    "build_retired": logging.WARNING,
    "run_parked": logging.WARNING,
    "message_unreadable": logging.WARNING,
    "turn_blocked": logging.WARNING,
    "store_full": logging.ERROR,
    "store_locked": logging.ERROR,
    "renew_failed": logging.WARNING,
    "store_away": logging.ERROR,
    "store_failed": logging.CRITICAL,
    "lease_lost": logging.WARNING,
    "attempt_leaked": logging.WARNING,
    "export_failed": logging.WARNING,
}


def subscribe(fn: Subscriber) -> Callable[[], None]:
    """Call `fn(name, fields)` for every event from now on; returns what ends it."""
    _subscribers.append(fn)
    return lambda: _subscribers.remove(fn)


def tell(name: str, **fields: Any) -> None:
    """Report an event to the log and all subscribers."""
    assert name in EVENTS, name
    _log.log(_LEVELS.get(name, logging.INFO), "%s %s", name, " ".join(f"{k}={v}" for k, v in fields.items()))
    for fn in list(_subscribers):
        fn(name, fields)
