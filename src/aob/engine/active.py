"""A run in the owner's memory."""

from __future__ import annotations

import asyncio
from typing import Any

from aob.kernel import events as ev
from aob.kernel.machine import Machine
from aob.kernel.states import TERMINAL_STATES
from aob.kernel.steps import Step
from aob.stores.rows import RunRow


class ActiveRun:
    """A run that the owner works on.

    Args:
        row: its summary as the next commit will leave it.
        machine: None when its workflow is not served here: then events are recorded, but no code runs.

    `seq` and `chain` are those of the last event that was put into a commit. `busy` counts attempts in
    flight, `pending` events that are not committed yet. `ended`: its end is on the way; `terminal`: its end is
    committed.
    """

    __slots__ = (
        "armed",
        "busy",
        "chain",
        "closed",
        "ended",
        "enders",
        "gone",
        "held_back",
        "idle_since",
        "last_at",
        "machine",
        "parked",
        "pending",
        "row",
        "seen",
        "seq",
        "stored_due",
        "stored_status",
        "terminal",
        "waiters",
    )

    def __init__(self, row: RunRow, machine: Machine | None, seq: int = 0, chain: int = 0) -> None:
        self.row = row
        self.machine = machine
        self.seq = seq
        self.chain = chain
        self.last_at = 0
        self.busy = 0
        self.pending = 0
        self.armed: int | None = None
        self.idle_since = 0.0
        self.ended = row.status in TERMINAL_STATES
        self.terminal: ev.Event | None = None
        self.gone = False
        self.closed = row.status in TERMINAL_STATES
        self.parked = row.status == "parked"
        self.seen: set[str] | None = None
        self.waiters: list[asyncio.Future[Any]] | None = None
        self.enders: list[asyncio.Future[Any]] | None = None
        self.held_back: list[Step] | None = None
        self.stored_status = row.status
        self.stored_due = row.due

    @property
    def key(self) -> int:
        return self.row.key

    @property
    def run_id(self) -> str:
        return self.row.run_id

    @property
    def tenant(self) -> str:
        return self.row.tenant

    def wake(self) -> None:
        """Something was committed: whoever waits for this run's events looks again."""
        waiters, self.waiters = self.waiters, None
        if waiters:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def wake_all(self) -> None:
        """The run has ended, or is followed here no longer: whoever waits for its end looks again, too."""
        self.wake()
        enders, self.enders = self.enders, None
        if enders:
            for ender in enders:
                if not ender.done():
                    ender.set_result(None)

    def end(self) -> asyncio.Future[None]:
        """A future that is done when the run's end is durable, or this object follows the run no longer."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.enders is None:
            self.enders = []
        self.enders.append(future)
        return future

    def next_commit(self) -> asyncio.Future[None]:
        """A future that is done after the next commit that concerns this run."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(future)
        return future
