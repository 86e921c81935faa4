"""Items 6 and 7: the run's time, and values as they were recorded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from aob.clock import SystemClock, to_datetime
from aob.testing.conformance import engine_flows as flows, engine_values as values
from aob.testing.conformance.engine_harness import EngineSetting, eventually, export, outcome, reaches


def moment(text: str) -> datetime:
    """A time that a workflow returned."""
    return datetime.fromisoformat(text)


class TimeTests(EngineSetting):
    """Item 6."""

    async def test_06_now_is_the_time_of_the_event_being_applied(self) -> None:
        async with self.serving(values.clocked) as client:
            run = await client.start(values.clocked, 3)
            seen = [moment(t) for t in await outcome(run)]
            times = [e.at for e in await run.history() if e.kind in ("run_started", "step_completed", "timer_fired")]
            assert seen == times

    async def test_06_loop_time_is_the_same_clock(self) -> None:
        async with self.serving(values.loop_clock) as client:
            run = await client.start(values.loop_clock)
            for now, loop in await outcome(run):
                assert abs(moment(now).timestamp() - loop) < 1e-5

    async def test_06_in_a_run_time_never_goes_back(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.waits)
            run = await client.start(flows.waits, run_id="r")
            for n in range(30):
                await run.signal("go", n)
                if n % 10 == 5:
                    client = await engine.restart()
                    run = await client.get("r")
            await run.signal("go", "end")
            await outcome(run)
            times = [e.at for e in await run.history()]
            assert times == sorted(times)

    async def test_06_time_does_not_go_back_over_a_checkpoint(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(values.clocked_passes)
            run = await client.start(values.clocked_passes)
            await asyncio.gather(run.signal("go"), run.signal("go"))
            seen = await outcome(run)
            assert seen == sorted(seen)
            replayed = await (await engine.process()).replay(values.clocked_passes, (await export(run))[:-1])
            assert (replayed.mismatch, replayed.result()) == (None, seen)

    async def test_06_a_timer_is_never_early_by_it(self) -> None:
        async with self.serving(values.naps) as client:
            delays = [0.0, 0.001, 0.01, 0.05, 0.2]
            run = await client.start(values.naps, delays)
            for (before, after), delay in zip(await outcome(run), delays, strict=True):
                assert moment(after) - moment(before) >= timedelta(seconds=delay)
            fired = [e for e in await run.history() if e.kind == "timer_fired"]
            assert len(fired) == 4
            assert all(e.at >= to_datetime(e.data["due"]) for e in fired)

    async def test_06_a_timer_that_came_due_while_nobody_served_fires_at_once(self) -> None:
        async with self.engine() as engine:
            for graceful in (True, False):
                client = await engine.open(flows.sleeper)
                run = await client.start(flows.sleeper, 0.3, run_id=f"r{graceful}")
                await reaches(run, "waiting")
                await (engine.close() if graceful else engine.crash())
                await asyncio.sleep(0.4)
                client = await engine.open(flows.sleeper)
                run = await client.get(f"r{graceful}")
                assert await outcome(run, timeout=2) == "awake"
                fired = (await run.history())[1]
                assert fired.kind == "timer_fired"
                assert fired.at >= to_datetime(fired.data["due"])
                await engine.close()

    async def test_06_a_waiting_run_keeps_its_due_time_over_restarts(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.sleeper)
            run = await client.start(flows.sleeper, 3_600.0, run_id="r")
            await reaches(run, "waiting")
            due = (await run.summary()).due
            assert due == (await run.history())[0].at + timedelta(hours=1)
            client = await engine.restart()
            assert (await (await client.get("r")).summary()).due == due

    async def test_06_a_month_of_sleep_and_a_timedelta_are_fine(self) -> None:
        async with self.serving(values.long_sleeper) as client:
            run = await client.start(values.long_sleeper)
            await reaches(run, "waiting")
            due = (await run.summary()).due
            assert due == (await run.history())[0].at + timedelta(days=31)

    async def test_06_a_run_starts_when_its_owner_makes_it_an_event(self) -> None:
        async with self.engine() as engine:
            client = await engine.open()
            run = await client.start(values.clocked, 0)
            created = (await run.summary()).created
            await asyncio.sleep(0.1)
            served = to_datetime(SystemClock().now_us())
            await engine.serve(client, values.clocked)
            (began,) = [moment(t) for t in await outcome(run)]
            assert created < served <= began == (await run.history())[0].at

    async def test_06_a_start_in_the_future_begins_then(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(values.clocked)
            at = datetime.fromtimestamp(SystemClock().now_us() / 1e6 + 0.4, UTC)
            run = await client.start(values.clocked, 0, start_at=at, run_id="r")
            again = await client.start(values.clocked, 0, start_at=at, run_id="r")
            assert again.run_id == "r"
            client = await engine.restart()
            run = await client.get("r")
            (began,) = [moment(t) for t in await outcome(run)]
            assert began >= at
            assert (await run.history())[0].at < at

    async def test_06_a_replay_sees_the_same_times(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(values.clocked)
            run = await client.start(values.clocked, 5)
            seen = await outcome(run)
            history = await export(run)
            replayed = await (await engine.process()).replay(values.clocked, history[:-1])
            assert replayed.mismatch is None
            assert replayed.result() == seen


class ValueTests(EngineSetting):
    """Item 7."""

    async def test_07_live_and_replayed_values_are_the_recorded_ones(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(values.typed)
            run = await client.start(values.typed)
            seen = await outcome(run)
            assert seen == [
                "Money(amount=Decimal('1.10'), tags={'a', 'b'}, at=None) True",
                "tuple (1, 2)",
                "list [1, 2]",
                "list [[1, 2]]",
                "dict {'a': [1]}",
            ]
            history = await export(run)
            for seed in (0, 1):
                replayed = await (await engine.process(hash_seed=seed)).replay(values.typed, history[:-1])
                assert replayed.mismatch is None
                assert replayed.result() == seen

    async def test_07_a_result_is_a_copy_that_nobody_else_holds(self) -> None:
        async with self.serving(values.shares) as client:
            assert await outcome(await client.start(values.shares)) == [[1, 2, 3], [1, 2]]

    async def test_07_an_activity_gets_a_copy_of_its_arguments(self) -> None:
        async with self.serving(values.lends) as client:
            assert await outcome(await client.start(values.lends)) == [[1, 2, 99], [1, 2], [1, 2, 3]]

    async def test_07_arguments_count_as_they_are_when_the_step_is_called(self) -> None:
        async with self.serving(values.changes_its_mind) as client:
            run = await client.start(values.changes_its_mind)
            assert await outcome(run) == [[1], [1, 2]]

    async def test_07_a_run_gets_a_copy_of_its_input_and_a_caller_of_the_result(self) -> None:
        async with self.serving(values.appends) as client:
            given = [1, 2]
            run = await client.start(values.appends, given)
            first, second = await outcome(run), await outcome(run)
            assert (given, first, second) == ([1, 2], [1, 2, 3], [1, 2, 3])
            first.append(4)
            assert await outcome(run) == [1, 2, 3]
            assert await outcome(await client.start(values.appends, [1, 2], run_id=run.run_id)) == [1, 2, 3]

    async def test_07_a_value_that_would_come_back_otherwise_is_refused(self) -> None:
        async with self.serving(values.refuses) as client:
            run = await client.start(values.refuses)
            told = await outcome(run)
            assert all(t.startswith("BadValue") for t in told), told
            assert "unfaithful" in told[0]

    async def test_07_signals_side_effects_and_children_give_decoded_values(self) -> None:
        async with self.serving(values.many_sources) as client:
            run = await client.start(values.many_sources)
            await run.signal("money", values.Money(values.Decimal("2.50"), {"x"}))
            assert await outcome(run) == ["[1, 2]", "Money(amount=Decimal('2.50'), tags={'x'}, at=None)", "[1, 2, 3]"]

    async def test_07_equal_values_have_equal_bytes_in_every_process(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            bodies: list[list[tuple[str, Any]]] = []
            for seed in (0, 1, 2, 3):
                other = await engine.process(hash_seed=seed)
                await other.serve(values.unordered)
                run_id = await other.start(values.unordered)
                await other.run(run_id, "result")
                events = await (await client.get(run_id)).history()
                run = await client.get(run_id)
                raw = [(kind, data) for _, kind, _, data in await export(run) if kind.startswith("step_")]
                assert [e.kind for e in events].count("step_completed") == 2
                bodies.append([(kind, values.without_times(data)) for kind, data in raw])
                await other.kill()
            assert bodies[0] == bodies[1] == bodies[2] == bodies[3]

    async def test_07_a_replay_under_another_hash_seed_asks_with_equal_bytes(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(values.unordered)
            run = await client.start(values.unordered)
            await outcome(run)
            history = await export(run)
            for seed in (0, 1, 2):
                replayed = await (await engine.process(hash_seed=seed)).replay(values.unordered, history)
                assert replayed.mismatch is None

    async def test_07_after_a_crash_the_run_goes_on_with_the_recorded_value(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(values.draws)
            run = await client.start(values.draws, run_id="r")
            await eventually(lambda: _drawn(run), "the first draws")
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            drawn, again = await outcome(run)
            recorded = [e.data["result"] for e in await run.history() if e.kind == "step_completed"]
            assert drawn == again == recorded


async def _drawn(run: Any) -> bool:
    return [e.kind for e in await run.history()].count("step_completed") == 2
