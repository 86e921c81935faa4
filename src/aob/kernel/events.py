"""The closed set of events that make up a run's history, and their stored form.

An event is stored as a JSON array (field order is the format: fields are only ever appended, with defaults). `KIND` and
`VERSION` are columns of their own, so that a reader can refuse what it does not know without reading further.
Times are integer microseconds since 1970 UTC. Payloads are typed JSON, kept as raw bytes until somebody needs them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from aob.errors import UnknownEvent
from aob.kernel.failures import Failure

NULL = Raw(b"null")
"""A payload that is not there (msgspec cannot decode `Raw | None`)."""


class Event(msgspec.Struct, array_like=True, gc=False):
    """What every event has.

    Args:
        at: when the owner made it an event.
    """

    KIND: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1

    at: int


class RunStarted(Event):
    """The run exists: first event of every history."""

    KIND = "run_started"
    workflow: str
    input: Raw
    tenant: str
    run_id: str
    birth: str
    seed: int
    flags: int = 0
    deadline: int | None = None
    attributes: dict[str, str] = {}
    parent: str | None = None
    parent_step: str | None = None
    depth: int = 0
    limits: dict[str, float] = {}
    fidelity: str = "fast"
    forked_from: str | None = None
    start_at: int | None = None
    overrides: dict[str, Raw] = {}


class StepScheduled(Event):
    """A step was asked for; recorded for children, tickets, long steps and under `fidelity="full"`."""

    KIND = "step_scheduled"
    step: str
    check: int
    type: str
    input: Raw
    target: str | None = None


class StepStarted(Event):
    """An attempt began; recorded for long steps and under `fidelity="full"`."""

    KIND = "step_started"
    step: str
    attempt: int
    worker: str = ""


class AttemptFailed(Event):
    """An attempt failed and another follows at `due`."""

    KIND = "attempt_failed"
    step: str
    attempt: int
    failure: Failure
    due: int
    first_start: int = 0
    heartbeat: Raw = NULL


class StepCompleted(Event):
    """A step's result: the first one committed counts. `used`: what a child run used up of its parent's limits."""

    KIND = "step_completed"
    step: str
    check: int
    result: Raw
    attempts: int = 1
    took: int = 0
    by: str | None = None
    used: dict[str, int] | None = None


class StepFailed(Event):
    """A step failed for good."""

    KIND = "step_failed"
    step: str
    check: int
    failure: Failure
    attempts: int = 1
    took: int = 0
    input: Raw = NULL
    used: dict[str, int] | None = None


class TimerFired(Event):
    """A durable timer came due."""

    KIND = "timer_fired"
    step: str
    due: int


class SignalReceived(Event):
    """A signal, or an accepted update (`update` is then its step id), entered the run."""

    KIND = "signal_received"
    name: str
    payload: Raw
    id: str | None = None
    update: str | None = None


class UpdateCompleted(Event):
    """The answer of an update."""

    KIND = "update_completed"
    step: str
    name: str
    result: Raw = NULL
    failure: Failure | None = None


class Emitted(Event):
    """A durable event for watchers."""

    KIND = "emitted"
    name: str
    data: Raw


class Changed(Event):
    """`aob.changed(id)` was answered True."""

    KIND = "changed"
    id: str


class Checkpoint(Event):
    """The function starts again from `state`; `carry` is what the kernel takes along."""

    KIND = "checkpoint"
    state: Raw
    carry: Raw


class CancelRequested(Event):
    """Somebody asked the run to stop."""

    KIND = "cancel_requested"
    reason: str
    timed_out: str | None = None


class Paused(Event):
    """Nothing new is dispatched from here."""

    KIND = "paused"
    reason: str = ""


class Resumed(Event):
    """Work goes on."""

    KIND = "resumed"


class Late(Event):
    """A fact that came too late to count."""

    KIND = "late"
    step: str
    outcome: str
    result: Raw = NULL


class RunCompleted(Event):
    """The run returned."""

    KIND = "run_completed"
    result: Raw
    unread: dict[str, int] = {}
    used: dict[str, int] = {}


class RunFailed(Event):
    """The run raised. `step` is the step failure that led to it, if one did."""

    KIND = "run_failed"
    failure: Failure
    step: str | None = None
    compensated: bool = False
    unread: dict[str, int] = {}
    used: dict[str, int] = {}


class RunCancelled(Event):
    """The run stopped because it was asked to."""

    KIND = "run_cancelled"
    reason: str
    compensated: bool = False
    unread: dict[str, int] = {}
    used: dict[str, int] = {}


class RunTerminated(Event):
    """The run was ended without running any of its code."""

    KIND = "run_terminated"
    reason: str
    used: dict[str, int] = {}


class RunTimedOut(Event):
    """A time limit of the run passed."""

    KIND = "run_timed_out"
    limit: str
    compensated: bool = False
    unread: dict[str, int] = {}
    used: dict[str, int] = {}


class Fork(msgspec.Struct):
    """Who a fork is, and what it changes of the history that it shares."""

    run_id: str
    birth: str
    seed: int
    overrides: dict[str, Raw] = {}
    attributes: dict[str, str] = {}


class RunReopened(Event):
    """`retry`: the run goes on; what it did after `keep` (up to this event) is set aside, but not the signals and
    updates that it received. With `fork`: a fork begins here."""

    KIND = "run_reopened"
    keep: int
    reason: str = ""
    fork: Fork | None = None


class Gap(Event):
    """Events `first` to `last` of a run that is open were deleted after the retention time. It has the `seq` of `last`;
    nobody records it: the store puts it in their place. `chain` is the checksum of `last`, `check` one over all this.
    """

    KIND = "gap"
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    chain: int = 0
    check: int = 0


TERMINAL: dict[str, str] = {
    "run_completed": "completed",
    "run_failed": "failed",
    "run_cancelled": "cancelled",
    "run_terminated": "terminated",
    "run_timed_out": "timed_out",
}
"""Terminal event kinds and the run state each leads to."""

EVENTS: tuple[type[Event], ...] = (
    RunStarted, StepScheduled, StepStarted, AttemptFailed, StepCompleted, StepFailed, TimerFired, SignalReceived,
    UpdateCompleted, Emitted, Changed, Checkpoint, CancelRequested, Paused, Resumed, Late, RunCompleted, RunFailed,
    RunCancelled, RunTerminated, RunTimedOut, RunReopened, Gap,
)  # fmt: skip
KINDS: tuple[str, ...] = tuple(e.KIND for e in EVENTS)

_decoders: dict[tuple[str, int], msgspec.json.Decoder[Any]] = {
    (e.KIND, e.VERSION): msgspec.json.Decoder(e) for e in EVENTS
}
encode_event = msgspec.json.Encoder().encode


def decode_event(kind: str, version: int, data: bytes, *, run_id: str | None = None) -> Event:
    """A stored row as an event.

    Raises:
        UnknownEvent: this version of aob does not know the kind, its version or its content.
    """
    decoder = _decoders.get((kind, version))
    if decoder is None:
        raise UnknownEvent(
            f"the history holds an event {kind!r} version {version} that this aob does not know; "
            "run the newer version that wrote it",
            run_id=run_id,
        )
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as e:
        raise UnknownEvent(f"the event {kind!r} version {version} cannot be read: {e}", run_id=run_id) from e


_time_decoder = msgspec.json.Decoder(Event)


def time_of(data: bytes) -> int:
    """When a stored event was made one, whatever its kind.

    Raises:
        UnknownEvent: it is no stored event.
    """
    try:
        return _time_decoder.decode(data).at
    except msgspec.MsgspecError as e:
        raise UnknownEvent(f"an event without a time cannot be read: {e}") from e


def event_data(event: Event) -> dict[str, Any]:
    """An event's own fields as plain Python values, payloads decoded: the `data` that users see."""
    if isinstance(event, Gap):
        return {"from": event.first, "to": event.last}
    fields = {k: v for k, v in msgspec.structs.asdict(event).items() if k not in ("at", "step")}
    return msgspec.json.decode(msgspec.json.encode(fields))
