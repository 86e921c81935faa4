"""What an activity can ask of the attempt that runs it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

import msgspec


class Info(msgspec.Struct, kw_only=True):
    """Where this code runs.

    Args:
        run_id, tenant, workflow: the run.
        step: the step id; empty in workflow code.
        attempt: number of this attempt, from 1.
        idempotency_key: the same on every attempt of this step, on every worker and version; shared with no other
            effect.
        heartbeat: details of the last heartbeat of the attempt before, or None.
    """

    run_id: str
    tenant: str
    workflow: str
    step: str = ""
    attempt: int = 1
    idempotency_key: str = ""
    heartbeat: Any = None
    _cancelled: list[bool] = []

    @property
    def cancelled(self) -> bool:
        """The attempt should stop: it was cancelled, timed out, or its worker lost the run."""
        return bool(self._cancelled)


class AttemptContext(Protocol):
    """What the worker provides to the activity it runs."""

    def info(self) -> Info: ...

    def heartbeat(self, details: Any) -> None: ...

    def emit(self, name: str, data: Any) -> None: ...


current_attempt: ContextVar[AttemptContext | None] = ContextVar("aob_attempt", default=None)
