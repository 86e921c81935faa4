"""Events as lines."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from aob.cli.output import short, span
from aob.client.views import Event

STYLES = {
    "run_completed": "green",
    "run_failed": "red",
    "run_timed_out": "red",
    "step_failed": "red",
    "attempt_failed": "yellow",
    "run_cancelled": "yellow",
    "run_terminated": "yellow",
    "step_completed": "",
    "stream": "dim",
    "late": "dim",
    "gap": "dim",
}
_HIDDEN = {"check", "birth", "seed", "flags", "tenant", "run_id", "depth", "fidelity", "carry", "version"}


def event_line(event: Event) -> Text:
    """One event in one line: place, time, kind, step, what there is to say."""
    place = "" if event.seq is None else str(event.seq)
    line = Text.assemble(
        (f"{place:>6}  {event.at.astimezone():%H:%M:%S}  ", "dim"),
        (f"{event.kind:<17}", STYLES.get(event.kind, "cyan")),
    )  # fmt: skip
    if event.step:
        line.append(f"  {event.step}", "bold")
    said = detail(event)
    return line.append(f"  {said}") if said else line


def detail(event: Event, width: int = 160) -> str:
    """What an event says beside its kind and step, in one line."""
    return short(_detail(event.kind, event.data), width)


def _detail(kind: str, data: dict[str, Any]) -> str:
    if kind == "run_started":
        return f"{data['workflow']} {short(data['input'], 120)}"
    if kind in ("step_completed", "run_completed"):
        extra = _attempts(data) if kind == "step_completed" else ""
        return f"{short(data['result'], 120)}{extra}"
    if kind in ("step_failed", "run_failed", "attempt_failed"):
        failure = data["failure"]
        name = failure["type"].rpartition(":")[2]
        number = f"attempt {data['attempt']}: " if kind == "attempt_failed" else ""
        return f"{number}{name}: {failure['message']}{_attempts(data) if kind == 'step_failed' else ''}"
    if kind == "step_scheduled":
        what = data["input"]["title"] if data["type"] == "ticket" else short(data["input"], 120)
        return " ".join(part for part in (data["type"], data.get("target"), what) if part)
    if kind in ("emitted", "signal_received", "stream"):
        return f"{data['name']} {short(data.get('data', data.get('payload')), 120)}"
    if kind == "gap":
        return f"events {data['from']:,} to {data['to']:,} were deleted after the retention time"
    left = {k: v for k, v in data.items() if k not in _HIDDEN and v not in (None, "", {}, [], 0)}
    if kind == "timer_fired":
        left.pop("due", None)
    return " ".join(f"{k}={v if isinstance(v, str) else short(v, 100)}" for k, v in left.items())


def _attempts(data: dict[str, Any]) -> str:
    parts = [span(data["took"] / 1e6)] if data.get("took") else []
    parts += [f"{data['attempts']} attempts"] if data.get("attempts", 1) > 1 else []
    parts += [f"by {data['by']}"] if data.get("by") else []
    return f"  ({', '.join(parts)})" if parts else ""
