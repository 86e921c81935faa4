"""Bugs planted into the deletion of old history, and the test of the suite of engines that must see each.

A suite that passes whatever the engine does proves nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aob.engine import forks
from aob.engine.history import History, Numbered
from aob.engine.trimming import Trimming
from aob.errors import AobError
from aob.kernel import events as ev
from aob.stores.memory import MemoryState
from aob.stores.rows import EventRow, RunFilter, RunRow
from aob.testing.conformance import engine_harness
from tests.conformance.test_engine_b_memory import TestMemoryEngine as Suite

Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[str, Plant]] = {}


def mutant(caught_by: str) -> Callable[[Plant], Plant]:
    """Register a planted bug under its own name."""

    def register(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = (caught_by, plant)
        return plant

    return register


@mutant("test_23_what_came_while_a_checkpoint_was_made_is_not_deleted_before_it_is_dealt_with")
def all_that_stands_before_a_checkpoint_goes(patch: pytest.MonkeyPatch) -> None:
    async def applied(self: History, stored: EventRow) -> int:
        return stored.seq - 1

    patch.setattr(History, "applied", applied)


@mutant("test_23_the_run_goes_on_from_its_checkpoint_after_a_crash")
def the_checkpoint_goes_too(patch: pytest.MonkeyPatch) -> None:
    async def applied(self: History, stored: EventRow) -> int:
        return stored.seq

    patch.setattr(History, "applied", applied)


@mutant("test_23_history_without_an_old_checkpoint_stays")
def nobody_asks_how_old_a_checkpoint_is(patch: pytest.MonkeyPatch) -> None:
    original = Trimming.trim
    patch.setattr(Trimming, "trim", lambda self, before: original(self, before + 10**18))


@mutant("test_23_what_was_before_a_checkpoint_is_deleted_and_a_reader_gets_a_gap")
def readers_are_not_told(patch: pytest.MonkeyPatch) -> None:
    original = History.read

    async def read(self: History, row: RunRow, *more: Any) -> AsyncIterator[Numbered]:
        async for event, seq in original(self, row, *more):
            if not isinstance(event, ev.Gap):
                yield event, seq

    patch.setattr(History, "read", read)


@mutant("test_23_a_loop_that_goes_on_keeps_no_more_than_the_retention_time")
def only_a_run_that_rests_is_cut(patch: pytest.MonkeyPatch) -> None:
    original = Trimming._cuts

    async def cuts(self: Trimming, old: list[EventRow]) -> Any:
        rows = {r.key: r for r in await self._host.store.list_runs(RunFilter())}
        return await original(self, [e for e in old if e.run in rows and e.seq == rows[e.run].checkpoint])

    patch.setattr(Trimming, "_cuts", cuts)


@mutant("test_23_what_a_fork_shares_stays")
def forks_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryState, "forks", lambda self, key: ())


@mutant("test_23_a_fork_begins_behind_the_gap")
def a_fork_may_begin_anywhere(patch: pytest.MonkeyPatch) -> None:
    def checkpoint_by(events: list[Numbered], seq: int, run_id: str) -> int:
        return max((s for event, s in events if isinstance(event, ev.Checkpoint) and s <= seq), default=0)

    patch.setattr(forks, "checkpoint_by", checkpoint_by)
    patch.setattr(forks, "_refuse_gone", lambda steps, events, run_id: None)


def test_the_suite_has_no_mutant_without_a_test() -> None:
    assert [test for test, _ in MUTANTS.values() if not hasattr(Suite, test)] == []


@pytest.mark.parametrize("name", MUTANTS)
def test_the_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test, plant = MUTANTS[name]
    plant(monkeypatch)
    for waits in (engine_harness.eventually, engine_harness.outcome):
        monkeypatch.setattr(waits, "__defaults__", (3.0,))
    with pytest.raises((AssertionError, AobError, TimeoutError)):
        asyncio.run(getattr(Suite(), test)())
