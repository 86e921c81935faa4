"""When today's code does not fit yesterday's history: what was recorded against what the code asks for now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aob.errors import NewerRun, NonDeterministic
from aob.kernel import events as ev, flags
from aob.kernel.steps import Step

if TYPE_CHECKING:
    from aob.kernel.machine import Machine


def was_asked_for(machine: Machine, event: ev.Event) -> bool:
    """Whether the code has asked for the step of this event, be it open or not; late events change nothing."""
    name, _, k = (getattr(event, "step", None) or event.KIND).rpartition("#")
    return bool(name) and k.isdigit() and int(k) <= machine.counters.get(name, 0)


def mismatch(machine: Machine, event: ev.Event, step: Step | None) -> NonDeterministic:
    """The error for an event that the code did not ask for.

    Args:
        step: the open step of the same id, when only its input differs.
    """
    recorded = _describe(event)
    asked = [f"{s.id}  asked for at {where_asked(machine, s)}" for s in machine.open.values()]
    timers = machine.timers.outstanding()
    if step is not None:
        where = where_asked(machine, step)
        asked.insert(0, f"{step.id}  asked for at {where}, with another input")
        reason = f"step {step.id} was recorded with another input than today's code gives it, at {where}"
    elif isinstance(event, ev.TimerFired) and event.step in timers:
        timers.remove(event.step)
        asked.insert(0, f"{event.step}  set for another time")
        reason = f"timer {event.step} was recorded with another time than today's code gives it"
    elif isinstance(event, ev.RunCompleted):
        reason = (
            "the run completed with another result than today's code returns"
            if machine.ended
            else "the run had completed, but today's code still waits"
        )
    else:
        reason = f"the history has {recorded}, which today's code does not ask for at this point"
    return NonDeterministic(
        f"today's code does not fit the recorded history: {reason}. Serve the code that fits, or guard the change with "
        "aob.changed(); the run is parked and nothing is lost",
        diff=render_diff(machine.seq, recorded, [*asked, *(f"{id}  set" for id in timers)]),
        run_id=machine.started.run_id,
        step=getattr(event, "step", None),
        where=_waits_at(machine, step),
    )


def _waits_at(machine: Machine, step: Step | None) -> str | None:
    """Where the code waits for this step, or for the first that it asks for; without any, where its main task waits."""
    asked = step or next(iter(machine.open.values()), None)
    if asked is not None:
        line = where_asked(machine, asked)
    else:
        line = _innermost(machine.main)[0] if machine.main is not None else "unknown"
    return None if line == "unknown" else line


def started_by_newer(started: ev.RunStarted) -> NewerRun:
    """The error for a run with behaviour flags that this version does not know."""
    unknown = started.flags & ~flags.KNOWN
    return NewerRun(
        f"the run was written by a newer aob, which acts by rules that this one does not know (flags {unknown:#x}): "
        "upgrade this one; the run is parked and nothing is lost",
        run_id=started.run_id,
    )


def render_diff(seq: int, recorded: str, asked: list[str]) -> str:
    """Recorded against asked, the first difference marked with `>`."""
    now = asked or ["nothing: the code asks for no step here"]
    lines = ["   recorded history                            | today's code"]
    if seq > 1:
        lines.append(f"   events 1 to {seq - 1} fit".ljust(47) + "|")
    left = f"> event {seq}: {recorded}"
    for i, right in enumerate(now):
        lines.append(f"{left if i == 0 else '':<47}| {right}")
    return "\n".join(lines)


def _describe(event: ev.Event) -> str:
    step = getattr(event, "step", None)
    return f"{event.KIND} {step}" if step else event.KIND


def where_asked(machine: Machine, step: Step) -> str:
    """`file:line` in the author's code that waits for this step."""
    for task in machine.loop.live_tasks():
        line, awaited = _innermost(task)
        if awaited is step or getattr(task, "_fut_waiter", None) is step:
            # a task made of the call itself, as by gather, has no line of its own: the function waits for it
            return line if line != "unknown" or machine.main is None else _innermost(machine.main)[0]
    return "unknown"


def _innermost(task: asyncio.Task[Any]) -> tuple[str, object]:
    """The line at which a task waits, and what it waits for."""
    line = "unknown"
    here: Any = task.get_coro()
    for _ in range(100):
        frame = getattr(here, "cr_frame", None) or getattr(here, "ag_frame", None) or getattr(here, "gi_frame", None)
        if frame is not None:
            found = caller_line_of(frame)
            line = found or line
        following = (
            getattr(here, "cr_await", None) or getattr(here, "ag_await", None) or getattr(here, "gi_yieldfrom", None)
        )
        if following is None:
            break
        here = following
    return line, getattr(task, "_fut_waiter", None)


def caller_line_of(frame: Any) -> str | None:
    name = frame.f_globals.get("__name__", "")
    if name.startswith(("aob.", "asyncio", "anyio")):
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
