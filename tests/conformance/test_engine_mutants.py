"""Bugs planted into the engine, and the test of the suite that must see each.

A suite that passes whatever the engine does proves nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from aob.engine import dispatch, starts
from aob.engine.active import ActiveRun
from aob.engine.commits import Commits
from aob.engine.dispatch import Dispatch
from aob.engine.executor import Attempt
from aob.engine.signals import Signals
from aob.errors import AobError
from aob.kernel import events as ev, machine as kernel
from aob.kernel.codec import ValueCodec
from aob.kernel.loop import WorkflowTask
from aob.kernel.machine import Machine
from aob.kernel.recorded import Recorded
from aob.kernel.retry import next_due
from aob.kernel.steps import Step, StepCall
from aob.kernel.timers import Timers
from aob.testing.conformance import engine_harness
from aob.worker import executor
from aob.workflow import context
from tests.conformance.test_engine_memory import TestMemoryEngine as Suite

Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[str, Plant]] = {}


def mutant(caught_by: str) -> Callable[[Plant], Plant]:
    """Register a planted bug under its own name."""

    def register(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = (caught_by, plant)
        return plant

    return register


@mutant("test_01_another_input_or_workflow_is_refused_before_start_returns")
def every_start_of_an_id_is_the_same(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(starts, "same_start", lambda existing, request: True)


@mutant("test_02_a_start_that_returned_survives_a_crash")
def a_start_returns_before_its_commit(patch: pytest.MonkeyPatch) -> None:
    original = Commits.ack

    def ack(self: Commits) -> asyncio.Future[Any]:
        original(self)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    patch.setattr(Commits, "ack", ack)


@mutant("test_03_a_senders_awaited_signals_arrive_in_order")
def the_inbox_is_read_from_the_end(patch: pytest.MonkeyPatch) -> None:
    original = Commits._first  # pyright: ignore[reportPrivateUsage]
    patch.setattr(Commits, "_first", lambda self, messages: original(self, messages[::-1]))


@mutant("test_04_nothing_but_late_facts_follow_the_end")
def an_ended_run_takes_signals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Signals, "signal", Signals.record)


@mutant("test_06_now_is_the_time_of_the_event_being_applied")
def now_is_the_hosts_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(context, "now", lambda: datetime.now(UTC))
    patch.setattr("aob.now", lambda: datetime.now(UTC))


@mutant("test_06_a_timer_is_never_early_by_it")
def timers_fire_early(patch: pytest.MonkeyPatch) -> None:
    original = Timers.take_due
    patch.setattr(Timers, "take_due", lambda self, now, *more: original(self, now + 3_600_000_000, *more))
    patch.setattr(Timers, "next_due", _soon(Timers.next_due))


def _soon(original: Callable[..., int | None]) -> Callable[..., int | None]:
    def next_due(self: Timers, *more: Any) -> int | None:
        due = original(self, *more)
        return None if due is None else due - 3_600_000_000

    return next_due


@mutant("test_06_time_does_not_go_back_over_a_checkpoint")
def held_events_set_the_clock_back(patch: pytest.MonkeyPatch) -> None:
    original = Machine.apply

    def apply(self: Machine, event: ev.Event, seq: int, *value: Any) -> None:
        if seq > 1:
            self.loop.now_us = 0
        original(self, event, seq, *value)

    patch.setattr(Machine, "apply", apply)


@mutant("test_07_a_result_is_a_copy_that_nobody_else_holds")
def a_workflow_sees_what_the_activity_returned(patch: pytest.MonkeyPatch) -> None:
    original = ValueCodec.encode_checked
    patch.setattr(ValueCodec, "encode_checked", lambda self, value: (original(self, value)[0], value))


@mutant("test_08_a_call_that_is_never_awaited_takes_no_id")
def calls_are_counted_when_they_are_made(patch: pytest.MonkeyPatch) -> None:
    original = StepCall.__init__

    def init(self: StepCall, machine: Machine, kind: Any, name: str, *more: Any) -> None:
        original(self, machine, kind, name, *more)
        machine.counters[name] = machine.counters.get(name, 0) + 1

    patch.setattr(StepCall, "__init__", init)


@mutant("test_09_task_groups_abort_in_one_order")
def tasks_hash_by_address(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WorkflowTask, "__hash__", object.__hash__)


@mutant("test_09_sets_of_tasks_and_calls_come_in_one_order")
def calls_hash_by_address(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StepCall, "__hash__", object.__hash__)


@mutant("test_09_queues_locks_generators_and_timers_come_in_one_order")
def generators_are_closed_by_the_loop_around(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kernel, "keep_generators", lambda: None)


@mutant("test_10_a_removed_step_parks_the_run")
def what_does_not_fit_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Machine, "_not_open", lambda self, event, step: None)


@mutant("test_10_another_input_parks_the_run")
def inputs_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kernel, "crc32", lambda data: 7)


@mutant("test_10_code_that_ends_before_the_history_parks_the_run")
def what_follows_the_end_of_the_code_is_late(patch: pytest.MonkeyPatch) -> None:
    original = Machine._not_open

    def not_open(self: Machine, event: ev.Event, step: Step | None) -> None:
        if self.ended is None:
            original(self, event, step)

    patch.setattr(Machine, "_not_open", not_open)


@mutant("test_11_changed_is_true_where_no_recorded_event_is_left")
def all_of_a_replay_is_old(patch: pytest.MonkeyPatch) -> None:
    original = Machine.changed

    def changed(self: Machine, change_id: str) -> bool:
        if self.replaying:
            self._last = -1
        return original(self, change_id)

    patch.setattr(Machine, "changed", changed)


@mutant("test_11_an_answer_holds_until_the_next_checkpoint")
def a_change_is_asked_anew_each_time(patch: pytest.MonkeyPatch) -> None:
    original = Recorded.changed

    def changed(self: Recorded, change_id: str, live: bool) -> tuple[bool, bool]:
        self._answered.clear()
        return original(self, change_id, live)

    patch.setattr(Recorded, "changed", changed)


@mutant("test_12_back_off_and_max_attempts_survive_a_crash")
def failed_attempts_are_not_replayed(patch: pytest.MonkeyPatch) -> None:
    original = Machine._attempt_failed

    def attempt_failed(self: Machine, event: ev.AttemptFailed) -> None:
        if not self.replaying:
            original(self, event)

    patch.setitem(kernel._APPLY, ev.AttemptFailed, attempt_failed)


@mutant("test_12_timers_that_do_not_fire_leave_nothing")
def cancelled_timers_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "cancelled", lambda self, timer: None)
    patch.setattr("aob.kernel.loop.TimerHandle.cancelled", lambda self: False)
    original = Timers.take_due
    patch.setattr(Timers, "take_due", lambda self, now, *more: original(self, now + 3_600_000_000, *more))


@mutant("test_13_without_a_policy_an_error_is_final")
def every_error_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    def due(retry: Any, failure: Any, error: BaseException, attempt: int, now: int, unit: float) -> int | None:
        return now if retry is None and attempt < 3 else next_due(retry, failure, error, attempt, now, unit)

    patch.setattr(dispatch, "next_due", due)


@mutant("test_13_a_result_that_comes_too_late_is_noted_and_ignored")
def late_results_are_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatch, "_late", lambda self, run, step, outcome, result: None)


@mutant("test_13_each_result_is_recorded_once_whatever_crashes")
def results_are_recorded_twice(patch: pytest.MonkeyPatch) -> None:
    original = Dispatch.attempt_succeeded

    def succeeded(self: Dispatch, attempt: Attempt, data: bytes, value: Any) -> None:
        run: ActiveRun = attempt.run
        step = attempt.step
        original(self, attempt, data, value)
        if not run.ended:
            self._host.commits.add(run, ev.StepCompleted(0, step.id, step.check, ev.Raw(data)))

    patch.setattr(Dispatch, "attempt_succeeded", succeeded)


@mutant("test_14_it_is_the_same_on_every_attempt")
def each_attempt_has_its_key(patch: pytest.MonkeyPatch) -> None:
    original = executor.LiveAttempt.info

    def info(self: executor.LiveAttempt) -> Any:
        found = original(self)
        found.idempotency_key += f"/{found.attempt}"
        return found

    patch.setattr(executor.LiveAttempt, "info", info)


@mutant("test_14_no_two_effects_share_it")
def a_key_names_no_birth(patch: pytest.MonkeyPatch) -> None:
    original = executor.idempotency_key
    patch.setattr(executor, "idempotency_key", lambda tenant, run, birth, step: original(tenant, run, "", step))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test, plant = MUTANTS[name]
    plant(monkeypatch)
    for waits in (engine_harness.eventually, engine_harness.outcome):
        monkeypatch.setattr(waits, "__defaults__", (2.0,))
    with pytest.raises((AssertionError, AobError, TimeoutError)):
        asyncio.run(getattr(Suite(), test)())
