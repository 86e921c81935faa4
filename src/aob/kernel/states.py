"""Run states and the one table of how events change them.

A state is derived from history, except `pending` (no event yet, maybe because no worker serves its code), `waiting`
(nothing to do but wait) and `parked` (a fact of the summary: the code does not fit, or its workers died of it).
"""

from __future__ import annotations

from typing import Literal, get_args

from aob.kernel.events import TERMINAL

RunState = Literal[
    "pending", "running", "waiting", "paused", "parked", "completed", "failed", "cancelled", "terminated", "timed_out"
]
STATES: tuple[str, ...] = get_args(RunState)
TERMINAL_STATES: frozenset[str] = frozenset(TERMINAL.values())
OPEN_STATES: tuple[str, ...] = tuple(s for s in STATES if s not in TERMINAL_STATES)

AFTER_EVENT: dict[str, str] = {
    "run_started": "running",
    "run_reopened": "running",
    "paused": "paused",
    "resumed": "running",
    **TERMINAL,
}
"""The state that follows an event of this kind; kinds that are not here leave it as it is."""
