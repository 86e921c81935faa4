"""What callers see of runs: summaries, pages, events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from aob.clock import to_datetime
from aob.errors import CallerError
from aob.kernel import events as ev
from aob.stores.rows import RunRow, TicketRow


class Event(msgspec.Struct, frozen=True):
    """One event of a run's history.

    Args:
        seq: its place, dense from 1; None for live stream items, which are in no history.
        at: when it was committed, UTC.
        kind: what happened, such as `step_completed`.
        step: the step id (`name#k`) it concerns, or None.
        data: what else there is to say, by kind; see docs/reference/events.md.
    """

    seq: int | None
    at: datetime
    kind: str
    step: str | None
    data: dict[str, Any]


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list. Times are UTC; `due` is when a waiting run wakes at the latest; `build` is the build of the code
    that the run is pinned to, or None."""

    run_id: str
    tenant: str
    workflow: str
    status: str
    created: datetime
    updated: datetime
    ended: datetime | None
    due: datetime | None
    attributes: dict[str, str]
    parent: str | None
    reason: str | None
    build: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Some summaries, newest first, and the cursor of the next page (None: this is the last)."""

    runs: list[RunSummary]
    cursor: str | None

    def __iter__(self) -> Iterator[RunSummary]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A decision asked of a person. `status` is `open`, `approved`, `rejected`, `expired` or `withdrawn`."""

    id: str
    run_id: str
    tenant: str
    workflow: str
    step: str
    title: str
    data: Any
    assignees: list[str]
    created: datetime
    deadline: datetime | None
    status: str
    by: str | None
    reason: str | None
    closed: datetime | None


def event_view(event: ev.Event, seq: int) -> Event:
    """An event as callers see it."""
    return Event(seq, to_datetime(event.at), event.KIND, getattr(event, "step", None), ev.event_data(event))


def summary_view(row: RunRow, shown: Callable[[str | None], str | None]) -> RunSummary:
    """A run's row as callers see it; `shown` opens a text that may be sealed."""
    return RunSummary(
        run_id=row.run_id,
        tenant=row.tenant,
        workflow=row.workflow,
        status=row.status,
        created=to_datetime(row.created),
        updated=to_datetime(row.updated),
        ended=_time(row.ended),
        due=_time(row.due),
        attributes=row.attributes,
        parent=row.parent,
        reason=shown(row.reason),
        build=row.build,
    )


def ticket_view(row: TicketRow, data: bytes, opened: Callable[[str], str]) -> Ticket:
    """A ticket's row as callers see it; `data` is its payload, opened, and `opened` does that for a text."""
    return Ticket(
        id=row.id,
        run_id=row.run_id,
        tenant=row.tenant,
        workflow=row.workflow,
        step=row.step,
        title=opened(row.title),
        data=msgspec.json.decode(data),
        assignees=[opened(name) for name in row.assignees],
        created=to_datetime(row.created),
        deadline=_time(row.deadline),
        status=row.status,
        by=None if row.by is None else opened(row.by),
        reason=None if row.reason is None else opened(row.reason),
        closed=_time(row.closed),
    )


def _time(us: int | None) -> datetime | None:
    return None if us is None else to_datetime(us)


def key_of(cursor: str | None) -> int | None:
    """Where the page after this cursor begins.

    Raises:
        CallerError: it is no cursor.
    """
    if cursor is None:
        return None
    if not cursor.isdigit():
        raise CallerError(f"bad cursor {cursor!r}: use the one of the page before")
    return int(cursor)
