"""Items 8 and 12: the ids of steps, and what is recorded of them."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

from aob.client.client import Client
from aob.client.run import Run
from aob.clock import to_datetime
from aob.errors import RunFailed
from aob.testing.conformance import engine_flows as flows, engine_shapes as shapes
from aob.testing.conformance.engine_harness import EngineSetting, eventually, export, kinds, outcome, reaches, refused


async def steps(run: Run[Any], kind: str = "step_completed") -> dict[str, Any]:
    """Results (or data) by step id, of the events of one kind."""
    return {e.step or "": e.data.get("result", e.data) for e in await run.history() if e.kind == kind}


async def _has(run: Run[Any], kind: str) -> bool:
    return kind in await kinds(run)


class StepIdTests(EngineSetting):
    """Item 8."""

    async def test_08_step_ids_count_each_names_calls(self) -> None:
        async with self.serving(shapes.two_names) as client:
            run = await client.start(shapes.two_names)
            await outcome(run)
            assert await steps(run) == {"one#1": "a", "two#1": "b", "one#2": "c", "two#2": "d", "one#3": "e"}

    async def test_08_step_ids_count_calls_in_first_await_order(self) -> None:
        async with self.serving(shapes.awaits_backwards) as client:
            run = await client.start(shapes.awaits_backwards)
            await outcome(run)
            assert await steps(run) == {"one#1": "third", "one#2": "second", "one#3": "first"}

    async def test_08_a_call_that_is_never_awaited_takes_no_id(self) -> None:
        async with self.serving(shapes.forgets) as client:
            run = await client.start(shapes.forgets)
            await outcome(run)
            assert await steps(run) == {"one#1": "b", "one#2": "d"}

    async def test_08_step_ids_of_tasks_count_in_the_order_in_which_they_first_run(self) -> None:
        async with self.serving(shapes.tasks_first_run) as client:
            run = await client.start(shapes.tasks_first_run)
            await outcome(run)
            assert await steps(run) == {"one#1": "direct", "one#2": "task 1", "one#3": "task 2", "one#4": "last"}

    async def test_08_gathered_steps_count_from_left_to_right(self) -> None:
        async with self.serving(shapes.gathers) as client:
            run = await client.start(shapes.gathers, 20)
            assert await outcome(run) == [f"g{n}" for n in range(20)]
            assert await steps(run) == {f"one#{n + 1}": f"g{n}" for n in range(20)}

    async def test_08_options_and_other_names_do_not_share_a_count_but_options_do(self) -> None:
        async with self.serving(shapes.with_options) as client:
            run = await client.start(shapes.with_options)
            await outcome(run)
            assert await steps(run) == {"one#1": "a", "one#2": "b", "uno#1": "c"}

    async def test_08_other_kinds_of_steps_are_counted_alike(self) -> None:
        async with self.serving(shapes.all_kinds) as client:
            run = await client.start(shapes.all_kinds)
            await outcome(run)
            seen = [k for k in await kinds(run) if not k.startswith(("run_", "step_scheduled"))]
            assert seen == [
                "step_completed side_effect#1", "step_completed side_effect#2", "timer_fired sleep#1",
                "step_completed small#1", "step_completed small#2", "timer_fired sleep#2",
            ]  # fmt: skip
            assert {s.run_id for s in await client.list(parent=run.run_id)} == {
                f"{run.run_id}~small.1", f"{run.run_id}~small.2",
            }  # fmt: skip

    async def test_08_how_commits_were_grouped_never_shows(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(shapes.races)
            runs = [await client.start(shapes.races, 12, run_id=f"r{n}") for n in range(5)]
            other = await engine.process(hash_seed=5)
            for run in runs:
                order = await outcome(run)
                done = [e.data["result"] for e in await run.history() if (e.step or "").startswith("one#")]
                assert order == done[:12]
                assert (await steps(run)) | {"": ""} == {
                    **{f"one#{n + 1}": f"r{n}" for n in range(12)},
                    **{f"two#{n + 1}": f"after {name}" for n, name in enumerate(order)},
                    "": "",
                }
                replayed = await other.replay(shapes.races, (await export(run))[:-1])
                assert (replayed.mismatch, replayed.result()) == (None, order)

    async def test_08_step_ids_go_on_after_a_crash(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.gated)
            trace = engine.trace()
            run = await client.start(flows.gated, trace.path, run_id="r")
            await trace.until(2)
            client = await engine.restart()
            flows.open_gate(trace.path, "gate")
            run = await client.get("r")
            assert await outcome(run) == ["before", "gate", "after"]
            assert await steps(run) == {"mark#1": "before", "gate#1": "gate", "mark#2": "after"}


class RecordTests(EngineSetting):
    """Item 12."""

    async def test_12_fast_records_one_event_a_step(self) -> None:
        async with self.serving(shapes.two_names) as client:
            run = await client.start(shapes.two_names)
            await outcome(run)
            events = await run.history()
            assert [e.kind for e in events] == ["run_started", *["step_completed"] * 5, "run_completed"]
            for event in events[1:-1]:
                assert {"check", "result", "attempts", "took"} <= event.data.keys()
                assert event.data["attempts"] == 1
                assert event.at - timedelta(microseconds=event.data["took"]) >= events[0].at

    async def test_12_a_failed_step_records_its_input_and_error(self) -> None:
        async with self.serving(shapes.fails) as client:
            run = await client.start(shapes.fails, 7)
            await refused(outcome(run), RunFailed)
            failed = next(e for e in await run.history() if e.kind == "step_failed")
            assert failed.data["input"] == {"number": 7, "times": 99}
            assert failed.data["failure"]["message"] == "7 failed"
            assert failed.data["attempts"] == 1

    async def test_12_an_error_is_recorded_without_anything_of_the_engines(self) -> None:
        async with self.serving(shapes.raises) as client:
            for kind in ("workflow", "activity"):
                run = await client.start(shapes.raises, kind)
                await refused(outcome(run), RunFailed)
                failure = (await run.history())[-1].data["failure"]
                assert (failure["type"], failure["message"]) == ("builtins:ValueError", f"from {kind}")
                assert not failure.get("cause") or kind == "activity"
                assert "aob/engine" not in str(failure)

    async def test_12_each_failed_attempt_that_is_tried_again_is_recorded(self) -> None:
        async with self.serving(shapes.fails_twice) as client:
            run = await client.start(shapes.fails_twice, 3)
            assert await outcome(run) == 3
            events = await run.history()
            assert [e.kind for e in events] == [
                "run_started", "attempt_failed", "attempt_failed", "step_completed", "run_completed",
            ]  # fmt: skip
            for n, event in enumerate(events[1:3], 1):
                assert event.data["attempt"] == n
                assert event.data["failure"]["message"] == "3 failed"
                assert event.data["due"] > event.data["first_start"]
                assert to_datetime(event.data["due"]) <= events[n + 1].at
            assert events[3].data["attempts"] == 3
            assert events[3].at >= to_datetime(events[2].data["due"])

    async def test_12_back_off_and_max_attempts_survive_a_crash(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(shapes.fails_always)
            trace = engine.trace()
            run = await client.start(shapes.fails_always, trace.path, run_id="r")
            for made in (1, 2, 3):
                await trace.until(made)
                await eventually(lambda c=client, n=made: _failed(c, n), f"{made} failed attempts on record")
                client = await engine.restart(graceful=made == 2)
            run = await client.get("r")
            await refused(outcome(run), RunFailed)
            assert trace.lines() == ["attempt 1", "attempt 2", "attempt 3", "attempt 4"]
            ends = [e for e in await run.history() if e.kind in ("attempt_failed", "step_failed")]
            assert [e.data["attempt"] for e in ends[:-1]] == [1, 2, 3]
            assert all(to_datetime(e.data["due"]) <= later.at for e, later in pairwise(ends))
            assert ends[-1].data["attempts"] == 4

    async def test_12_full_also_records_when_a_step_was_scheduled_and_started(self) -> None:
        async with self.serving(shapes.in_full) as client:
            run = await client.start(shapes.in_full, 5)
            assert await outcome(run) == 5
            assert await kinds(run) == [
                "run_started", "step_scheduled fails_some#1", "step_started fails_some#1",
                "attempt_failed fails_some#1", "step_started fails_some#1", "step_completed fails_some#1",
                "run_completed",
            ]  # fmt: skip
            events = await run.history()
            assert events[1].data["input"] == {"number": 5, "times": 1}
            assert [e.data["attempt"] for e in events if e.kind == "step_started"] == [1, 2]
            assert all(e.data["worker"] for e in events if e.kind == "step_started")

    async def test_12_full_replays_like_fast(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(shapes.in_full)
            run = await client.start(shapes.in_full, 5)
            await outcome(run)
            history = await export(run)
            replayed = await (await engine.process()).replay(shapes.in_full, history[:-1])
            assert (replayed.mismatch, replayed.result()) == (None, 5)

    async def test_12_a_long_step_records_its_start(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.gated, long_step_after=0.1)
            trace = engine.trace()
            run = await client.start(flows.gated, trace.path, run_id="r")
            await eventually(lambda: _has(run, "step_started gate#1"), "the start to be recorded")
            flows.open_gate(trace.path, "gate")
            await outcome(run)
            assert await kinds(run) == [
                "run_started", "step_completed mark#1", "step_started gate#1", "step_completed gate#1",
                "step_completed mark#2", "run_completed",
            ]  # fmt: skip

    async def test_12_long_steps_record_their_starts_in_the_order_in_which_they_began(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.gates, long_step_after=0.1)
            trace = engine.trace()
            run = await client.start(flows.gates, trace.path, 20, run_id="r")
            await eventually(lambda: _has(run, "step_started gate#20"), "all starts to be recorded")
            flows.open_gate(trace.path, "gate")
            assert await outcome(run) == 20
            assert list(await steps(run, "step_started")) == [f"gate#{n}" for n in range(1, 21)]

    async def test_12_a_child_records_its_start(self) -> None:
        async with self.serving(shapes.parent) as client:
            run = await client.start(shapes.parent, 1)
            assert await outcome(run) == 2
            assert await kinds(run) == [
                "run_started",
                "step_scheduled small#1",
                "step_completed small#1",
                "run_completed",
            ]
            scheduled = (await run.history())[1]
            assert scheduled.data["target"] == f"{run.run_id}~small.1"

    async def test_12_timers_that_do_not_fire_leave_nothing(self) -> None:
        async with self.serving(shapes.timeouts) as client:
            run = await client.start(shapes.timeouts)
            assert await outcome(run) == ["a", "b", "c", "late"]
            assert [k.rpartition("#")[0] or k for k in await kinds(run)] == [
                "run_started", *["step_completed one"] * 3, "timer_fired timer", "run_completed",
            ]  # fmt: skip

    async def test_12_a_waiting_run_keeps_its_earliest_due_time(self) -> None:
        async with self.serving(shapes.many_timers) as client:
            run = await client.start(shapes.many_timers)
            await reaches(run, "waiting")
            began = (await run.history())[0].at
            assert (await run.summary()).due == began + timedelta(seconds=60)
            await run.signal("sooner")
            await reaches(run, "waiting")
            at = (await run.history())[-1].at
            assert (await run.summary()).due == at + timedelta(seconds=5)
            await run.signal("never")
            await reaches(run, "waiting")
            assert (await run.summary()).due is None


async def _failed(client: Client, times: int) -> bool:
    history = await (await client.get("r")).history()
    return sum(e.kind == "attempt_failed" for e in history) >= times
