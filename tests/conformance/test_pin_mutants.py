"""Bugs planted into the pinning of runs, and the test of the suite of engines that must see each.

A suite that passes whatever the engine does proves nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aob.engine.inbox import Inbox
from aob.engine.pins import Pins
from aob.engine.starts import Starts
from aob.errors import AobError
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.rows import RunRow
from aob.testing.conformance import engine_b_pins, engine_harness
from tests.conformance.test_engine_b_memory import TestMemoryEngine as One, TestMemoryEngineOfManyPartitions as Many

Plant = Callable[[pytest.MonkeyPatch], None]
Suite = type[engine_b_pins.PinTests]
MUTANTS: dict[str, tuple[Suite, str, Plant]] = {}


def mutant(suite: Suite, caught_by: str) -> Callable[[Plant], Plant]:
    """Register a planted bug under its own name."""

    def register(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = (suite, caught_by, plant)
        return plant

    return register


@mutant(One, "test_a_pinned_run_stays_with_its_build_and_others_move_on")
def any_build_runs_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pins, "elsewhere", lambda self, row: False)


@mutant(One, "test_a_run_whose_build_is_retired_moves_on")
def nobody_learns_that_a_build_is_retired(patch: pytest.MonkeyPatch) -> None:
    async def look_again(self: Pins) -> None:
        return

    patch.setattr(Pins, "look_again", look_again)


@mutant(One, "test_a_run_sent_by_another_process_is_pinned_by_the_worker_that_begins_it")
def the_build_of_a_pending_run_is_not_written(patch: pytest.MonkeyPatch) -> None:
    original = Starts.begin_pending

    def begin_pending(self: Starts, row: RunRow, request: Any) -> Any:
        run = original(self, row, request)
        run.row.build = None
        return run

    patch.setattr(Starts, "begin_pending", begin_pending)


@mutant(Many, "test_a_pinned_run_stays_with_its_build_and_others_move_on")
def lanes_are_given_to_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pins, "elsewhere", lambda self, row: False)
    make_lanes = MemoryStore.make_lanes

    async def anybodys(self: MemoryStore, build: str, count: int) -> None:
        await make_lanes(self, build, count)
        self.state.lanes |= dict.fromkeys(self.state.lanes, "")

    patch.setattr(MemoryStore, "make_lanes", anybodys)


@mutant(Many, "test_what_was_sent_before_any_worker_came_reaches_a_pinned_run_in_order")
def what_was_taken_before_a_move_is_dealt_with_too(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Inbox, "moved", lambda self, tenant, run_id: None)


@mutant(Many, "test_what_was_sent_before_any_worker_came_reaches_a_pinned_run_in_order")
def messages_stay_where_they_are_when_their_run_moves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "_forward", lambda self, run, partition: None)


@mutant(Many, "test_a_detached_child_of_a_pinned_run_goes_its_own_way")
def children_live_with_their_parents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pins, "beside", lambda self, parent, workflow, run_id, detached: parent.partition)


@mutant(Many, "test_a_run_whose_build_is_retired_moves_on")
def lanes_of_a_retired_build_stay_its_own(patch: pytest.MonkeyPatch) -> None:
    async def retire(self: MemoryStore, build: str) -> None:
        self.state.retired.add(build)

    patch.setattr(MemoryStore, "retire", retire)


def test_the_suite_has_no_mutant_without_a_test() -> None:
    assert [test for suite, test, _ in MUTANTS.values() if not hasattr(suite, test)] == []
    assert MemoryState(2).lanes == {}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, test, plant = MUTANTS[name]
    plant(monkeypatch)
    monkeypatch.setattr(engine_harness.eventually, "__defaults__", (5.0,))
    monkeypatch.setattr(engine_b_pins, "PATIENCE", 5.0)
    with pytest.raises((AssertionError, AobError, TimeoutError)):
        asyncio.run(getattr(suite(), test)())
