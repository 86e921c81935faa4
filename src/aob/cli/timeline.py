"""A run's steps as bars over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from rich.text import Text

from aob.cli.output import moment, span
from aob.client.views import Event
from aob.clock import to_datetime
from aob.kernel.events import TERMINAL

_WAITING = {"timer", "approval", "signal"}
_ASIDE = {"emitted", "update_completed", "late", "paused", "resumed"}
_LABEL = 36
_IDLE_SHARE = 0.4
_STYLES = {"done": "green", "failed": "red", "open": "cyan", "waited": "blue", "point": "yellow"}


@dataclass
class Bar:
    """One step, from its start to its end (or to now, while it is open). `failed` are times of failed attempts."""

    step: str
    type: str
    start: datetime
    end: datetime
    status: str
    open: bool = False
    attempts: int = 1
    failed: list[datetime] = field(default_factory=list[datetime])

    @property
    def waits(self) -> bool:
        """Whether the time was spent waiting, not working."""
        return self.type in _WAITING


def bars_of(events: Sequence[Event], now: datetime) -> list[Bar]:
    """The steps of a history, by their starts.

    Args:
        now: where bars of open steps end.
    """
    bars: dict[str, Bar] = {}
    previous = events[0].at if events else now
    for event in kept(events):
        if event.step is not None:
            _take(bars, event, previous)
        elif event.kind == "signal_received":
            name = f"signal {event.data['name']}"
            bars[f"{name} {event.seq}"] = Bar(name, "signal", event.at, event.at, "point")
        if event.kind not in _ASIDE:
            previous = event.at
    ended = bool(events) and events[-1].kind in TERMINAL
    for bar in bars.values():
        if bar.open:
            bar.end = max(events[-1].at if ended else now, bar.start)
    return sorted(bars.values(), key=lambda bar: (bar.start, bar.end))


def kept(events: Sequence[Event]) -> list[Event]:
    """Events without those that a retry set aside; what the run was sent stands."""
    out: list[Event] = []
    for event in events:
        if event.kind == "run_reopened":
            out = [e for e in out if e.kind == "signal_received" or _first(e) <= event.data["keep"]]
        out.append(event)
    return out


def _first(event: Event) -> int:
    return event.data["from"] if event.kind == "gap" else event.seq or 0


def _take(bars: dict[str, Bar], event: Event, previous: datetime) -> None:
    assert event.step is not None
    kind, data = event.kind, event.data
    bar = bars.get(event.step)
    if kind in ("run_failed", "late", "update_completed", "signal_received"):
        return
    if kind == "timer_fired":
        bars[event.step] = Bar(event.step, "timer", previous, event.at, "waited")
        return
    if bar is None:
        start = event.at - timedelta(microseconds=data.get("took", 0))
        bar = bars[event.step] = Bar(event.step, "activity", start, event.at, "open", open=True)
    if kind == "step_scheduled":
        bar.type = "approval" if data["type"] == "ticket" else data["type"]
    elif kind == "attempt_failed":
        if data.get("first_start"):
            bar.start = min(bar.start, to_datetime(data["first_start"]))
        bar.failed.append(event.at)
        bar.attempts = data["attempt"]
    elif kind in ("step_completed", "step_failed"):
        took = timedelta(microseconds=data.get("took", 0))
        bar.start = min(bar.start, event.at - took)
        bar.end, bar.open, bar.attempts = event.at, False, data.get("attempts", 1)
        bar.status = "failed" if kind == "step_failed" else "waited" if bar.waits else "done"


# --- drawing ----------------------------------------------------------------------------------------------


def draw(bars: Sequence[Bar], width: int) -> list[Text]:
    """A ruler and one line for each bar."""
    label = min(max(len(bar.step) for bar in bars), _LABEL)
    room = max(width - label - 14, 20)
    scale = Scale(bars, room)
    lines = [Text(" " * (label + 2)) + scale.ruler()]
    for bar in bars:
        name = bar.step if len(bar.step) <= label else bar.step[: label - 1] + "…"
        line = Text(f"{name:<{label}}  ")
        line.append(_drawn(bar, scale, room))
        attempts = f" ×{bar.attempts}" if bar.attempts > 1 else ""
        said = "" if bar.status == "point" else span(bar.end - bar.start) + ("…" if bar.open else "")
        lines.append(line.append(f" {said}{attempts}", "dim"))
    return lines


def _drawn(bar: Bar, scale: Scale, room: int) -> Text:
    first = min(scale.column(bar.start), room - 1)
    last = max(min(scale.column(bar.end), room), first + 1)
    if bar.status == "point":
        return Text(" " * first + "◆" + " " * (room - first - 1), style=_STYLES["point"])
    body = list(("░" if bar.waits else "▒" if bar.open else "█") * (last - first))
    for at in bar.failed:
        body[min(max(scale.column(at) - first, 0), len(body) - 1)] = "×"
    text = Text(" " * first)
    text.append("".join(body), style=_STYLES[bar.status if not bar.waits or bar.open else "waited"])
    return text.append(" " * (room - last))


class Scale:
    """From times to columns: work in proportion, stretches in which nothing works cut to a share of the width."""

    def __init__(self, bars: Sequence[Bar], room: int) -> None:
        times = sorted({t for bar in bars for t in (bar.start, bar.end)})
        self._times = times
        self._room = room
        segments = list(pairwise(times))
        busy = [any(not b.waits and b.start < high and b.end > low for b in bars) for low, high in segments]
        lengths = [(high - low).total_seconds() for low, high in segments]
        work = sum(d for d, b in zip(lengths, busy, strict=True) if b)
        idle = sum(not b for b in busy)
        most = work * _IDLE_SHARE / (1 - _IDLE_SHARE) / idle if idle and work else max(lengths, default=1.0) or 1.0
        self._cut = [not b and d > most for d, b in zip(lengths, busy, strict=True)]
        weights = [min(d, most) if not b else d for d, b in zip(lengths, busy, strict=True)]
        total = sum(weights) or 1.0
        self._columns = [0.0]
        for weight in weights:
            self._columns.append(self._columns[-1] + weight / total * room)

    def column(self, at: datetime) -> int:
        """The column of a time."""
        for i, (low, high) in enumerate(pairwise(self._times)):
            if at <= high:
                share = (at - low) / (high - low) if high > low else 0.0
                return round(self._columns[i] + max(share, 0.0) * (self._columns[i + 1] - self._columns[i]))
        return self._room

    def ruler(self) -> Text:
        """When it begins, when it ends, and what was cut out."""
        line = [" "] * self._room
        for i, cut in enumerate(self._cut):
            if cut:
                first, last = round(self._columns[i]), round(self._columns[i + 1])
                said = f"≈{span(self._times[i + 1] - self._times[i])}"
                place = max(first, (first + last - len(said)) // 2)
                for k, c in enumerate(said if len(said) <= last - first else "≈"):
                    if place + k < self._room:
                        line[place + k] = c
        begin, end = moment(self._times[0]), f"{self._times[-1].astimezone():%H:%M:%S}"
        if not any(c != " " for c in line[: len(begin) + 1]):
            line[: len(begin)] = begin
        if not any(c != " " for c in line[-len(end) - 1 :]):
            line[-len(end) :] = end
        return Text("".join(line), style="dim")
