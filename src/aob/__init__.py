"""aob: the execution layer for production AI agents. Workflows are plain Python; every finished step is durable."""

from importlib import import_module
from types import ModuleType

from aob.client.client import Client, connect
from aob.client.present import use_present
from aob.client.run import Run
from aob.client.views import Event, Page, RunSummary, Ticket
from aob.engine.exporter import Exporter, LogEvent
from aob.errors import (
    ActivityFailed,
    AlreadyCompensated,
    AobError,
    AuthorError,
    BadDefinition,
    BadInput,
    BadPayload,
    BadRunId,
    BadUrl,
    BadValue,
    BudgetExhausted,
    CallerError,
    CheckpointBusy,
    DuplicateDefinition,
    HeartbeatTimeout,
    IoInWorkflow,
    LeaseLost,
    NewerRun,
    NonDeterministic,
    NonRetryable,
    NotExported,
    NotFinished,
    NotInWorkflow,
    NotSupported,
    NoWorker,
    OperatorError,
    QueryNotFound,
    RunCancelled,
    RunExists,
    RunFailed,
    RunFinished,
    RunNotFound,
    RunParked,
    RunTerminated,
    RunTimedOut,
    StepNotFound,
    StepTimeout,
    StillNeeded,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    StoreUnavailable,
    TicketClosed,
    TicketNotFound,
    UnknownEvent,
    UpdateRefused,
    WorkflowNotFound,
)
from aob.human.approvals import ApprovalTimeout, Decision, approval
from aob.kernel.limits import Limits
from aob.kernel.retry import Retry
from aob.settings import Settings
from aob.worker.jsonlines import JsonLines
from aob.workflow.attempt import Info
from aob.workflow.context import (
    changed,
    checkpoint,
    checkpoint_state,
    emit,
    heartbeat,
    info,
    now,
    random,
    side_effect,
    signal_run,
    signals,
    sleep,
    uuid4,
    wait_signal,
    wait_until,
)
from aob.workflow.definitions import Activity, ChildHandle, Workflow, activity, workflow
from aob.workflow.saga import compensate, saga
from aob.workflow.signals import query, update

__version__ = "0.1.0"

use_present()


def __getattr__(name: str) -> ModuleType:
    """`aob.testing` is there without an import of its own, and is not loaded by who does not use it."""
    if name != "testing":
        raise AttributeError(f"module 'aob' has no attribute {name!r}")
    return import_module("aob.testing")


__all__ = [
    "Activity",
    "ActivityFailed",
    "AlreadyCompensated",
    "AobError",
    "ApprovalTimeout",
    "AuthorError",
    "BadDefinition",
    "BadInput",
    "BadPayload",
    "BadRunId",
    "BadUrl",
    "BadValue",
    "BudgetExhausted",
    "CallerError",
    "CheckpointBusy",
    "ChildHandle",
    "Client",
    "Decision",
    "DuplicateDefinition",
    "Event",
    "Exporter",
    "HeartbeatTimeout",
    "Info",
    "IoInWorkflow",
    "JsonLines",
    "LeaseLost",
    "Limits",
    "LogEvent",
    "NewerRun",
    "NoWorker",
    "NonDeterministic",
    "NonRetryable",
    "NotExported",
    "NotFinished",
    "NotInWorkflow",
    "NotSupported",
    "OperatorError",
    "Page",
    "QueryNotFound",
    "Retry",
    "Run",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "RunFinished",
    "RunNotFound",
    "RunParked",
    "RunSummary",
    "RunTerminated",
    "RunTimedOut",
    "Settings",
    "StepNotFound",
    "StepTimeout",
    "StillNeeded",
    "StoreCorrupt",
    "StoreFailed",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "StoreUnavailable",
    "Ticket",
    "TicketClosed",
    "TicketNotFound",
    "UnknownEvent",
    "UpdateRefused",
    "Workflow",
    "WorkflowNotFound",
    "__version__",
    "activity",
    "approval",
    "changed",
    "checkpoint",
    "checkpoint_state",
    "compensate",
    "connect",
    "emit",
    "heartbeat",
    "info",
    "now",
    "query",
    "random",
    "saga",
    "side_effect",
    "signal_run",
    "signals",
    "sleep",
    "update",
    "uuid4",
    "wait_signal",
    "wait_until",
    "workflow",
]
