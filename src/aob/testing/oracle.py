"""What must hold of every store after any death: checked on what is in it, without a word from the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from aob.kernel import events as ev
from aob.stores.chain import GAP
from aob.stores.protocol import Store
from aob.stores.rows import EventRow, RunFilter, RunRow

_PAGE = 1_000

Name = tuple[str, str]
"""A run: tenant and run id."""

Keys = Mapping[tuple[str, str, str], set[str]]
"""Idempotency keys that attempts were given, by tenant, run id and step."""


class Seen:
    """Everything a store held at some moment.

    Args:
        runs: summaries.
        events: histories as stored.
    """

    def __init__(self, runs: dict[Name, RunRow], events: dict[Name, list[EventRow]]) -> None:
        self.runs = runs
        self.events = events


async def look(store: Store) -> Seen:
    """Read a store from end to end; damage raises."""
    runs: dict[Name, RunRow] = {}
    before: int | None = None
    while rows := await store.list_runs(RunFilter(before=before, limit=_PAGE)):
        runs |= {(row.tenant, row.run_id): row for row in rows}
        before = rows[-1].key
    return Seen(runs, {name: await _history(store, row) for name, row in runs.items()})


async def _history(store: Store, row: RunRow) -> list[EventRow]:
    events: list[EventRow] = []
    while page := await store.events(row.key, events[-1].seq if events else 0, _PAGE):
        events += page
    return events


def problems(seen: Seen, keys: Keys | None = None, earlier: Iterable[Seen] = ()) -> list[str]:
    """What does not hold, in words; empty when all is well.

    Args:
        keys: of attempts, where they were watched.
        earlier: what the same store held before.
    """
    found = [f"run {name[1]}: {what}" for name, events in seen.events.items() for what in _of_history(events)]
    found += [f"run {n[1]}: {what}" for n, row in seen.runs.items() for what in _of_summary(row, seen.events[n])]
    found += _of_keys(keys or {})
    for before in earlier:
        found += _of_growth(before, seen)
    return found


def _of_history(events: list[EventRow]) -> Iterator[str]:
    numbers = [n for e in events for n in numbers_of(e)]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its events are numbered {numbers}"
    epochs = [e.epoch for e in events]
    if epochs != sorted(epochs):
        yield f"an owner that had been replaced has written: the epochs are {epochs}"
    results: Counter[str] = Counter()
    fired: Counter[str] = Counter()
    ended: str | None = None
    for row in events:
        event = ev.decode_event(row.kind, row.version, row.data)
        if isinstance(event, ev.RunReopened):
            results, fired, ended = Counter(), Counter(), None
        elif ended is not None and not isinstance(event, ev.Late):
            yield f"{row.kind} follows the end ({ended})"
        elif isinstance(event, ev.StepCompleted | ev.StepFailed):
            results[event.step] += 1
        elif isinstance(event, ev.TimerFired):
            fired[event.step] += 1
            if event.at < event.due:
                yield f"the timer {event.step} fired {event.due - event.at} µs early"
        ended = row.kind if row.kind in ev.TERMINAL else ended
    yield from (f"{step} has {count} results" for step, count in results.items() if count > 1)
    yield from (f"the timer {step} fired {count} times" for step, count in fired.items() if count > 1)


def numbers_of(row: EventRow) -> range:
    """The `seq` of an event; of a gap those of all that it stands for."""
    event = ev.decode_event(row.kind, row.version, row.data)
    return range(event.first if isinstance(event, ev.Gap) else row.seq, row.seq + 1)


def _of_summary(row: RunRow, events: list[EventRow]) -> Iterator[str]:
    last = next((e.kind for e in reversed(events) if e.kind != "late"), None)
    ended = ev.TERMINAL.get(last or "")
    if (ended or row.ended) and (row.status != ended or row.ended is None):
        yield f"its summary says {row.status}, its history ends with {last}"


def _of_keys(keys: Keys) -> Iterator[str]:
    for (_, run_id, step), used in keys.items():
        if len(used) > 1:
            yield f"run {run_id}: attempts of {step} had different idempotency keys: {', '.join(sorted(used))}"
    owners = Counter(key for used in keys.values() for key in used)
    yield from (f"{count} steps share the idempotency key {key}" for key, count in owners.items() if count > 1)


def _of_growth(before: Seen, after: Seen) -> Iterator[str]:
    for name, events in before.events.items():
        now = {e.seq: (e.chain, e.data) for e in after.events.get(name, [])}
        gone = {n for e in after.events.get(name, []) if e.kind == GAP for n in numbers_of(e)}
        if any(e.seq not in gone and now.get(e.seq) != (e.chain, e.data) for e in events):
            yield f"run {name[1]}: of {len(events)} events that were written some are gone or changed"
        if gone and (1 in gone or max(gone) >= after.runs[name].checkpoint):
            yield f"run {name[1]}: what it goes on from was deleted"
