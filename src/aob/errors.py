"""One error tree, by who must act. Every error has a stable `code`, says what to do, and names the run and step where
it applies.

- `CallerError`: the call was wrong, or came too late; change the call.
- `AuthorError`: the workflow's or activity's code must change.
- `OperatorError`: the store or the deployment needs a person.
- `RunFailed` and its kin: what a run ended with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class AobError(Exception):
    """Root of every error that aob raises.

    Args:
        message: what is wrong and what to do about it, for a person.
        run_id: the run it concerns, where there is one.
        step: the step id (`name#k`) it concerns, where there is one.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", *, run_id: str | None = None, step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.run_id = run_id
        self.step = step

    def __str__(self) -> str:
        where = ", ".join(f"{k} {v}" for k, v in (("run", self.run_id), ("step", self.step)) if v)
        return f"{self.message} ({where})" if where else self.message


# --- the caller must act -------------------------------------------------------------------------


class CallerError(AobError):
    """The call was wrong or came too late."""

    code = "bad_call"


class RunNotFound(CallerError):
    """No run of this tenant has this id."""

    code = "run_not_found"


class RunExists(CallerError):
    """A run with this id exists with another workflow or input."""

    code = "run_exists"


class BadRunId(CallerError):
    """A run id must be 1 to 200 of letters, digits and `._-:@+=`."""

    code = "bad_run_id"


class BadInput(CallerError):
    """An input does not fit the workflow's parameters."""

    code = "bad_input"


class BadPayload(CallerError):
    """A recorded or received value does not fit the type asked for."""

    code = "bad_payload"


class RunFinished(CallerError):
    """The run has ended, so it takes no more of this."""

    code = "run_finished"


class NotFinished(CallerError):
    """The call needs a run that has ended."""

    code = "run_not_finished"


class StillNeeded(CallerError):
    """The run cannot be deleted yet: the run that started it may ask for its result again."""

    code = "still_needed"


class NotExported(StillNeeded):
    """The run cannot be deleted yet: an exporter has not come past its events."""

    code = "not_exported"


class AlreadyCompensated(CallerError):
    """The run undid its steps, so it cannot be retried; fork it."""

    code = "already_compensated"


class StepNotFound(CallerError):
    """The run has no such step."""

    code = "step_not_found"


class WorkflowNotFound(CallerError):
    """No workflow of this name is known here."""

    code = "workflow_not_found"


class QueryNotFound(CallerError):
    """The run has no query or update of this name."""

    code = "query_not_found"


class UpdateRefused(CallerError):
    """The update's validator refused it; nothing was recorded."""

    code = "update_refused"


class TicketNotFound(CallerError):
    """No ticket of this tenant has this id."""

    code = "ticket_not_found"


class TicketClosed(CallerError):
    """The ticket was decided, or its run no longer waits for it."""

    code = "ticket_closed"


class NotSupported(CallerError):
    """This engine lacks the capability; see `client.capabilities`."""

    code = "not_supported"


class NotInWorkflow(CallerError):
    """The call only works inside a running workflow (or activity)."""

    code = "not_in_workflow"


class NoWorker(CallerError):
    """No process serves this run's workflow, so nobody can answer."""

    code = "no_worker"


class BadUrl(CallerError):
    """The store's address is not understood."""

    code = "bad_url"


# --- the author must act -------------------------------------------------------------------------


class AuthorError(AobError):
    """Workflow or activity code must change."""

    code = "bad_code"


class DuplicateDefinition(AuthorError):
    """Two definitions have one name."""

    code = "duplicate_definition"


class BadDefinition(AuthorError):
    """A workflow or activity is declared in a way that cannot work."""

    code = "bad_definition"


class BadValue(AuthorError):
    """A value cannot be recorded: it would not come back as it went in."""

    code = "bad_value"


class IoInWorkflow(AuthorError):
    """Workflow code tried real I/O, a thread or a process; make it an activity."""

    code = "io_in_workflow"


class NonDeterministic(AuthorError):
    """Today's code does not fit the recorded history.

    Args:
        diff: recorded steps against new ones, the first difference marked.
        where: `file:line` at which today's code waits instead, where it is known.
    """

    code = "non_deterministic"

    def __init__(
        self, message: str = "", *, diff: str = "", run_id: str | None = None, step: str | None = None,
        where: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, run_id=run_id, step=step)
        self.diff = diff
        self.where = where


class NewerRun(NonDeterministic):
    """A newer aob started the run, and acts by rules that this one does not know; upgrade this one."""

    code = "newer_run"


class CheckpointBusy(AuthorError):
    """`checkpoint` was called while something was outstanding that it cannot keep: steps, timers, compensations."""

    code = "checkpoint_busy"


class NonRetryable(AobError):
    """Raise it (or a subclass) in an activity to fail at once, whatever its retry says."""

    code = "non_retryable"


# --- the operator must act -----------------------------------------------------------------------


class OperatorError(AobError):
    """The store or the deployment needs a person."""

    code = "operator"


class StoreUnavailable(OperatorError):
    """The store cannot be opened or reached."""

    code = "store_unavailable"


class StoreLocked(OperatorError):
    """Another program holds the store's lock for too long."""

    code = "store_locked"


class StoreFull(OperatorError):
    """The disk is full; nothing was acknowledged. Free some space: work goes on by itself."""

    code = "store_full"


class StoreFailed(OperatorError):
    """A write could not be made durable. This process stops acknowledging; restart it to recover from disk."""

    code = "store_failed"


class StoreCorrupt(OperatorError):
    """The store's content is damaged; restore a copy."""

    code = "store_corrupt"


class StoreTooNew(OperatorError):
    """A newer aob wrote this store; upgrade this one."""

    code = "store_too_new"


class LeaseLost(OperatorError):
    """Another process owns the partition now; this one writes nothing more to it."""

    code = "lease_lost"


class UnknownEvent(OperatorError):
    """The history holds an event that this version does not know; a newer aob wrote it."""

    code = "unknown_event"


# --- how a run or a step ended -------------------------------------------------------------------


class ActivityFailed(AobError):
    """An activity (or child run) failed; the original error as recorded.

    Args:
        type: the original exception's type, `module:QualName`.
        traceback: bounded text of where it was raised.
        original_code: the `code` of the original, where it was an `AobError`.
    """

    code = "activity_failed"

    def __init__(
        self,
        message: str = "",
        *,
        type: str = "",
        traceback: str = "",
        original_code: str | None = None,
        run_id: str | None = None,
        step: str | None = None,
    ) -> None:
        super().__init__(message, run_id=run_id, step=step)
        self.type = type
        self.traceback = traceback
        self.original_code = original_code


class HeartbeatTimeout(AobError, TimeoutError):
    """An attempt did not report for longer than its `heartbeat_timeout`."""

    code = "heartbeat_timeout"


class StepTimeout(AobError, TimeoutError):
    """An attempt, or all attempts of a step together, took too long."""

    code = "step_timeout"


class BudgetExhausted(AobError):
    """A limit of the run (or of the tree it belongs to) is used up.

    Args:
        limit: the limit's name, such as `steps`.
    """

    code = "budget_exhausted"

    def __init__(
        self, message: str = "", *, limit: str = "", run_id: str | None = None, step: str | None = None
    ) -> None:
        super().__init__(message, run_id=run_id, step=step)
        self.limit = limit


class RunFailed(AobError):
    """The run failed; `__cause__` is the error that ended it, `details` its recorded form."""

    code = "run_failed"

    def __init__(
        self,
        message: str = "",
        *,
        details: Mapping[str, object] | None = None,
        run_id: str | None = None,
        step: str | None = None,
    ) -> None:
        super().__init__(message, run_id=run_id, step=step)
        self.details: Mapping[str, object] = details or {}


class RunCancelled(RunFailed):
    """The run was cancelled."""

    code = "run_cancelled"


class RunTerminated(RunFailed):
    """The run was terminated; no code of it ran at the end."""

    code = "run_terminated"


class RunTimedOut(RunFailed):
    """The run passed its `timeout` or `wall_time`."""

    code = "run_timed_out"


class RunParked(AobError):
    """The run is parked: today's code does not fit its history, or its workers died of it. Nothing is lost."""

    code = "run_parked"
