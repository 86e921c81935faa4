"""`aob.approval`: ask a person, wait for days, and go on exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Raw

from aob.errors import BadDefinition
from aob.kernel.codec import ValueCodec, codec_for
from aob.kernel.events import NULL
from aob.kernel.machine import Machine
from aob.kernel.steps import StepCall
from aob.kernel.texts import check_text
from aob.workflow.context import emit, machine_or_refuse

T = TypeVar("T")
OnTimeout = Literal["reject", "approve", "fail", "escalate"]


class Decision(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A person's answer, or the default when none came in time.

    Args:
        approved: the answer.
        by: who gave it; `timeout` when nobody did.
        reason: why, in their words.
        data: what was shown, or what they changed it to.
    """

    approved: bool
    by: str
    reason: str = ""
    data: Any = None


class ApprovalTimeout(TimeoutError):
    """Nobody decided in time, and `on_timeout="fail"` asks for an error."""


class TicketPlan(msgspec.Struct, frozen=True):
    """How to check what a person changed."""

    codec: ValueCodec


async def approval(
    title: str,
    data: object = None,
    type: Any = None,
    assignees: Sequence[str] = (),
    timeout: float | timedelta | None = None,
    on_timeout: OnTimeout = "reject",
    escalate_to: str | Sequence[str] | Sequence[Sequence[str]] = (),
) -> Decision[Any]:
    """Open a ticket and wait for its decision, across restarts and deploys.

    Args:
        title: the question.
        data: what to show; it may be edited by who decides.
        type: what edited data must fit; default: the type of `data` where that is a model, else anything.
        assignees: whom to ask.
        timeout: seconds or a timedelta until the default counts; None: wait for ever.
        on_timeout: `reject`, `approve`, `fail` (raise `ApprovalTimeout`), or `escalate`: ask `escalate_to` next, each
            as long as
            `timeout`; when the last of the chain has not decided either, it is rejected.
        escalate_to: a name, names, or a chain of groups of names.

    Raises:
        ApprovalTimeout: nobody decided in time and `on_timeout` is `fail`.
        BadPayload: the edited data does not fit.
    """
    machine = machine_or_refuse("approval")
    if on_timeout not in ("reject", "approve", "fail", "escalate"):
        raise BadDefinition(f"approval {title!r}: on_timeout is reject, approve, fail or escalate, not {on_timeout!r}")
    chain = _chain(escalate_to)
    if on_timeout == "escalate" and (not chain or timeout is None):
        raise BadDefinition(f"approval {title!r}: on_timeout='escalate' needs escalate_to= and timeout=")
    check_text("approval", title)
    shown = codec_for(_shown_type(data), f"approval {title!r}")
    wanted = codec_for(type if type is not None else _shown_type(data), f"approval {title!r}")
    body = shown.encode_checked(data)[0]
    groups = [list(assignees), *(chain if on_timeout == "escalate" else [])]
    for level, group in enumerate(groups):
        recorded = await _ask(machine, title, body, group, timeout, wanted)
        if recorded is not None:
            return _decision(recorded, data, wanted)
        if level + 1 < len(groups):
            emit("approval_escalated", {"title": title, "to": groups[level + 1]})
    return _default(title, data, on_timeout)


async def _ask(
    machine: Machine,
    title: str,
    body: bytes,
    assignees: list[str],
    timeout: float | timedelta | None,
    wanted: ValueCodec,
) -> dict[str, Raw] | None:
    """What was decided, as recorded; None when nobody did in time."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    asked: dict[str, Any] = {"title": title, "data": Raw(body), "assignees": assignees}
    if seconds is not None:
        asked["deadline"] = machine.loop.now_us + round(seconds * 1e6)
    step = StepCall(machine, "ticket", "approval", msgspec.json.encode(asked), TicketPlan(wanted), _as_recorded)
    if seconds is None:
        return await step
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError:
        return None


def _as_recorded(data: Any) -> dict[str, Raw]:
    return msgspec.json.decode(bytes(data), type=dict[str, Raw])


def _decision(recorded: dict[str, Raw], shown: object, wanted: ValueCodec) -> Decision[Any]:
    edited = recorded.get("data")
    return Decision(
        approved=msgspec.json.decode(recorded["approved"]),
        by=msgspec.json.decode(recorded.get("by", Raw(b'""'))),
        reason=msgspec.json.decode(recorded.get("reason", Raw(b'""'))),
        data=shown if edited is None or edited == NULL else wanted.decode(edited),
    )


def _default(title: str, data: object, on_timeout: OnTimeout) -> Decision[Any]:
    emit("approval_timed_out", {"title": title, "default": on_timeout})
    if on_timeout == "fail":
        raise ApprovalTimeout(f"nobody decided {title!r} in time")
    return Decision(approved=on_timeout == "approve", by="timeout", reason="nobody decided in time", data=data)


def _chain(escalate_to: Any) -> list[list[str]]:
    if isinstance(escalate_to, str):
        return [[escalate_to]] if escalate_to else []
    return [[entry] if isinstance(entry, str) else list(cast("Sequence[str]", entry)) for entry in escalate_to]


def _shown_type(data: object) -> Any:
    return Any if data is None or isinstance(data, dict | list | tuple | str | int | float | bool) else type(data)
