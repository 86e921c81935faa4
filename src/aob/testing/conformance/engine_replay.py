"""Items 10 and 11: replay against today's code, parking, and `aob.changed`."""

from __future__ import annotations

from typing import Any

from aob.client.client import Client
from aob.client.run import Run
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_harness import (
    AnyWorkflow,
    EngineSetting,
    EngineUnderTest,
    Trace,
    eventually,
    export,
    kinds,
    outcome,
    reaches,
)
from aob.testing.conformance.engine_versions import (
    Appended,
    Elsewise,
    Exchanged,
    Guarded,
    Inserted,
    Longer,
    Old,
    OtherInput,
    Removed,
    Renamed,
    Reordered,
    Shorter,
    TwiceGuarded,
)


async def waiting_run(engine: EngineUnderTest, flow: AnyWorkflow, events: int) -> tuple[Run[Any], Trace]:
    """A run of `flow` that has so many events, and waits."""
    client = await engine.open(flow)
    trace = engine.trace()
    run = await client.start(flow, trace.path, run_id="r")
    await eventually(lambda: _has(run, events), f"{events} events")
    await reaches(run, "waiting")
    return run, trace


async def deploy(engine: EngineUnderTest, flow: AnyWorkflow, graceful: bool = True) -> tuple[Client, Run[Any]]:
    """Restart with other code, and have the run looked at."""
    client = await engine.restart(flow, graceful=graceful)
    run = await client.get("r")
    await run.signal("look")
    return client, run


class ReplayTests(EngineSetting):
    """Item 10."""

    async def _parks(self, old: AnyWorkflow, new: AnyWorkflow, events: int, *told: str) -> None:
        """The run parks under `new`, writes nothing for it, and goes on under `old` as if nothing had been."""
        async with self.engine() as engine:
            run, trace = await waiting_run(engine, old, events)
            recorded, before = await export(run), trace.lines()
            _, run = await deploy(engine, new)
            await reaches(run, "parked")
            reason = (await run.summary()).reason or ""
            assert reason.startswith("non_deterministic: ")
            for text in (*told, "recorded history", "> event "):
                assert text in reason, reason
            assert (await export(run))[: len(recorded)] == recorded
            assert {k for k in (await kinds(run))[len(recorded) :]} == {"signal_received"}
            assert trace.lines() == before
            _, run = await deploy(engine, old)
            await run.signal("go")
            await outcome(run)
            assert trace.lines()[: len(before)] == before
            assert (await run.summary()).reason is None

    async def test_10_a_removed_step_parks_the_run(self) -> None:
        await self._parks(Old.steps, Removed.steps, 3, "step_completed mark#2", "event 3")

    async def test_10_a_removed_timer_parks_the_run(self) -> None:
        await self._parks(Old.timer, Removed.timer, 2, "timer_fired sleep#1", "event 2")

    async def test_10_another_delay_parks_the_run(self) -> None:
        await self._parks(Old.timer, Longer.timer, 2, "timer_fired sleep#1", "event 2")

    async def test_10_code_that_ends_before_the_history_parks_the_run(self) -> None:
        await self._parks(Old.steps, Shorter.steps, 3, "step_completed mark#2", "event 3")

    async def test_10_an_inserted_step_parks_the_run(self) -> None:
        await self._parks(Old.steps, Inserted.steps, 3, "step_completed mark#1", "one#1", "event 2")

    async def test_10_another_input_parks_the_run(self) -> None:
        await self._parks(Old.steps, OtherInput.steps, 3, "step_completed mark#2", "another input", "event 3")

    async def test_10_another_activity_parks_the_run(self) -> None:
        await self._parks(Old.steps, Renamed.steps, 3, "step_completed mark#2", "two#1", "event 3")

    async def test_10_another_order_parks_the_run(self) -> None:
        await self._parks(Old.together, Reordered.together, 3, "step_completed one#1", "two#1", "event 2")

    async def test_10_steps_added_behind_the_history_are_made(self) -> None:
        async with self.engine() as engine:
            await waiting_run(engine, Old.steps, 3)
            _, run = await deploy(engine, Appended.steps, graceful=False)
            await run.signal("go")
            assert await outcome(run) == ["first", "second", "new", "third"]
            assert engine.trace().lines() == ["first", "second", "new", "third"]

    async def test_10_recorded_steps_are_not_made_again(self) -> None:
        async with self.engine() as engine:
            _, trace = await waiting_run(engine, Old.steps, 3)
            for graceful in (True, False, True, False):
                _, run = await deploy(engine, Old.steps, graceful)
            await run.signal("go")  # pyright: ignore[reportPossiblyUnboundVariable]
            assert await outcome(run) == ["first", "second", "third"]  # pyright: ignore[reportPossiblyUnboundVariable]
            assert trace.lines() == ["first", "second", "third"]

    async def test_10_a_step_without_an_event_was_in_flight_and_is_made_again(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Old.in_flight)
            trace = engine.trace()
            run = await client.start(Old.in_flight, trace.path, run_id="r")
            await trace.until(2)
            await engine.crash()
            client = await engine.open(Old.in_flight)
            flows.open_gate(trace.path, "old")
            run = await client.get("r")
            assert await outcome(run) == "old"
            assert trace.lines().count("before") == 1
            assert trace.lines().count("old") == 2
            assert [k for k in await kinds(run) if not k.startswith("step_started")] == [
                "run_started", "step_completed mark#1", "step_completed gate#1", "run_completed",
            ]  # fmt: skip

    async def test_10_a_step_in_flight_may_be_exchanged(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Old.in_flight)
            trace = engine.trace()
            run = await client.start(Old.in_flight, trace.path, run_id="r")
            await trace.until(2)
            client = await engine.restart(Exchanged.in_flight)
            run = await client.get("r")
            assert await outcome(run) == "instead"
            assert trace.lines() == ["before", "old", "instead"]

    async def test_10_a_parked_run_loses_no_signal_and_is_no_victim_of_its_worker(self) -> None:
        async with self.engine() as engine:
            await waiting_run(engine, Old.steps, 3)
            for graceful in (True, False, False, False, False):
                _, run = await deploy(engine, Removed.steps, graceful)
                await reaches(run, "parked")
            assert ((await run.summary()).reason or "").startswith("non_deterministic")  # pyright: ignore[reportPossiblyUnboundVariable]
            await run.signal("go")  # pyright: ignore[reportPossiblyUnboundVariable]
            client = await engine.restart(Old.steps)
            assert await outcome(await client.get("r")) == ["first", "second", "third"]
            sent = [e.data["name"] for e in await (await client.get("r")).history() if e.kind == "signal_received"]
            assert sent == ["look"] * 5 + ["go"]

    async def test_10_an_ended_run_is_no_business_of_new_code(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Old.result)
            run = await client.start(Old.result, engine.trace().path, run_id="r")
            await outcome(run)
            history = await export(run)
            client = await engine.restart(Elsewise.result)
            run = await client.get("r")
            assert (await run.status(), await outcome(run)) == ("completed", "end")
            replayed = await (await engine.process()).replay(Elsewise.result, history)
            assert "another result" in (replayed.mismatch or "")

    async def test_10_another_process_with_other_code_parks_and_one_with_the_old_code_goes_on(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            trace = engine.trace()
            first = await engine.process(hash_seed=1)
            await first.serve(Old.steps)
            await first.start(Old.steps, trace.path, run_id="r")
            client = await engine.open()
            run = await client.get("r")
            await eventually(lambda: _steps_done(run, 2), "two results on record")
            await first.kill()
            second = await engine.process(hash_seed=2)
            await second.serve(Removed.steps)
            await run.signal("go")
            await reaches(run, "parked")
            await second.kill()
            third = await engine.process(hash_seed=3)
            await third.serve(Old.steps)
            assert await outcome(run) == ["first", "second", "third"]
            assert trace.lines() == ["first", "second", "third"]

    async def test_10_every_prefix_of_a_history_replays_and_asks_for_the_rest(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.marks)
            trace = engine.trace()
            run = await client.start(flows.marks, trace.path, ["a", "b", "c"])
            await outcome(run)
            history = await export(run)
            other = await engine.process(hash_seed=4)
            for n in range(1, len(history)):
                replayed = await other.replay(flows.marks, history[:n])
                assert replayed.mismatch is None
                assert replayed.commands == ([f"mark#{n}"] if n < 4 else ["run_completed"])
            assert trace.lines() == ["a", "b", "c"]


class ChangedTests(EngineSetting):
    """Item 11."""

    async def test_11_changed_is_true_and_recorded_when_reached_live(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Guarded.changing)
            run = await client.start(Guarded.changing, engine.trace().path)
            await run.signal("go")
            assert (await outcome(run))[2] == "True True (True, True)"
            assert [e.data["id"] for e in await run.history() if e.kind == "changed"] == ["early", "late"]

    async def test_11_changed_is_false_where_older_code_wrote_history(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Old.changing)
            trace = engine.trace()
            run = await client.start(Old.changing, trace.path, run_id="r")
            await run.signal("go")
            await eventually(lambda: _signalled(run), "the signal")
            await trace.until(2)
            await outcome(run)
            history = await export(run)
            assert [h[1] for h in history].count("signal_received") == 1
            replayed = await (await engine.process()).replay(Guarded.changing, history[:-2])
            assert replayed.mismatch is None
            assert replayed.commands == ["mark#2"]

    async def test_11_changed_is_true_where_no_recorded_event_is_left(self) -> None:
        async with self.engine() as engine:
            await waiting_run(engine, Old.changing, 2)
            client = await engine.restart(Guarded.changing)
            run = await client.get("r")
            await run.signal("go")
            assert (await outcome(run))[2] == "False True (False, True)"
            assert engine.trace().lines() == ["first", "late", "last"]
            assert [e.data["id"] for e in await run.history() if e.kind == "changed"] == ["late"]

    async def test_11_an_answer_stays_after_crashes_and_newer_changes(self) -> None:
        async with self.engine() as engine:
            await waiting_run(engine, Old.changing, 2)
            client = await engine.restart(Guarded.changing)
            await (await client.get("r")).signal("look")
            await engine.trace().until(2)
            for flow in (Guarded.changing, TwiceGuarded.changing):
                client = await engine.restart(flow)
                await (await client.get("r")).signal("look")
            run = await client.get("r")
            await run.signal("go")
            assert (await outcome(run))[2] == "False True False"
            assert engine.trace().lines() == ["first", "late", "last"]

    async def test_11_an_answer_holds_until_the_next_checkpoint(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Old.looping)
            trace = engine.trace()
            run = await client.start(Old.looping, trace.path, run_id="r")
            await run.signal("go")
            await trace.until(1)
            await reaches(run, "waiting")
            client = await engine.restart(Guarded.looping)
            run = await client.get("r")
            for turn in range(2, 6):
                await run.signal("go")
                await trace.until(turn)
                if turn == 4:
                    client = await engine.restart()
                    run = await client.get("r")
            assert trace.lines() == ["old turn", "old turn", "old turn", "new turn", "new turn"]
            await run.terminate()

    async def test_11_what_a_change_asks_for_is_done_only_when_the_change_is_durable(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Guarded.changing)
            run = await client.start(Guarded.changing, engine.trace().path)
            await run.signal("go")
            await outcome(run)
            seen = [
                (e.kind, e.step or e.data.get("id"))
                for e in await run.history()
                if e.kind in ("changed", "step_completed")
            ]
            for change, step in (("early", "mark#1"), ("late", "mark#3")):
                assert seen.index(("changed", change)) < seen.index(("step_completed", step))

    async def test_11_a_replay_elsewhere_gives_the_same_answers(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(Guarded.changing)
            run = await client.start(Guarded.changing, engine.trace().path)
            await run.signal("go")
            result = await outcome(run)
            history = await export(run)
            replayed = await (await engine.process(hash_seed=6)).replay(Guarded.changing, history[:-1])
            assert (replayed.mismatch, replayed.result()) == (None, result)


async def _has(run: Run[Any], events: int) -> bool:
    return len(await run.history()) >= events


async def _signalled(run: Run[Any]) -> bool:
    return "signal_received" in await kinds(run)


async def _steps_done(run: Run[Any], count: int) -> bool:
    return sum(kind.startswith("step_completed") for kind in await kinds(run)) >= count
