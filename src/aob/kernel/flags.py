"""Behaviour flags: ways in which the kernel acts since some version, and did not before.

A run keeps those that it was started with (`RunStarted.flags`), so that what an old history led to is what it leads to
for ever. A flag is a bit; a bit is never used again. CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

TURNS = 1 << 0
"""Of several `wait_until` whose predicates hold, one goes on at a time, and the next predicate is asked when it has:
what it changed may have made it false. Before, all of them went on, with a predicate that was true no more."""

NO_UNDO_AT_CHECKPOINT = 1 << 1
"""`checkpoint` is refused while compensations of the run are registered. Before, it was taken, and they were lost with
the next restart, or ran when there was none."""

CURRENT = TURNS | NO_UNDO_AT_CHECKPOINT
"""Of runs that are started now."""

KNOWN = CURRENT
"""All that this version knows how to act by; a run with any other was started by a newer one, and is parked."""
