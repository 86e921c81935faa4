"""Item 23: a checkpoint ends the pass; what is not the author's goes on by itself."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Any

import aob
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_setting import BesideSetting, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, outcome, reaches


@dataclass
class State:
    done: int = 0
    sums: list[int] = field(default_factory=list[int])


@aob.workflow
async def adds_up(rounds: int) -> list[int]:
    """A step a pass, and its running sum."""
    state = aob.checkpoint_state(State) or State()
    if state.done == rounds:
        return state.sums
    total = await flows.plus(state.sums[-1] if state.sums else 0, state.done)
    aob.checkpoint(State(state.done + 1, [*state.sums, total]))


@aob.workflow
async def collects() -> list[Any]:
    """Takes signals, a pass each; updates and queries too, until `end`."""
    got: list[Any] = aob.checkpoint_state(list[Any]) or []

    @aob.query
    def look() -> list[Any]:
        return got

    @aob.update
    def put(value: Any) -> int:
        got.append(value)
        return len(got)

    before = len(got)
    waiting = asyncio.create_task(aob.wait_signal("go"))
    await aob.wait_until(lambda: len(got) > before or waiting.done())
    if waiting.done():
        if waiting.result() == "end":
            return got
        got.append(waiting.result())
    waiting.cancel()
    aob.checkpoint(got)


@aob.workflow
async def mixed() -> list[str]:
    """Everything that a pass may use before its checkpoint."""
    done: list[str] = aob.checkpoint_state(list[str]) or []
    if len(done) == 4:
        return done
    drawn = f"{aob.random().random():.6f} {aob.uuid4()}"
    value = await aob.side_effect(lambda: "effect")
    await aob.sleep(0.01)
    step = await flows.plus(len(done))
    child = await flows.twice(step)
    aob.emit("pass", len(done))
    version = aob.changed("new")
    aob.checkpoint([*done, f"{drawn} {value} {step} {child} {version}"])


class CheckpointTests(BesideSetting):
    """Item 23."""

    async def test_23_the_function_starts_again_with_its_state(self) -> None:
        async with self.serving(adds_up) as client:
            run = await client.start(adds_up, 5)
            assert await outcome(run) == [0, 1, 3, 6, 10]
            events = await sound(run)
            assert [e.kind for e in events].count("checkpoint") == 5
            assert [e.step for e in events if e.kind == "step_completed"] == [f"plus#{n}" for n in range(1, 6)]

    async def test_23_without_a_checkpoint_the_state_is_none(self) -> None:
        @aob.workflow
        async def looks() -> list[Any]:
            state = aob.checkpoint_state()
            if state is None:
                aob.checkpoint(0)
            return [state, aob.checkpoint_state(int)]

        async with self.serving(looks) as client:
            assert await outcome(await client.start(looks)) == [0, 0]

    async def test_23_after_a_crash_it_goes_on_from_the_last_checkpoint(self) -> None:
        passes: list[int] = []

        @aob.workflow
        async def counts(trace: str) -> list[int]:
            state = aob.checkpoint_state(State) or State()
            passes.append(state.done)
            if state.done == 6:
                return state.sums
            if state.done == 3:
                await flows.gate(trace, "gate")
            aob.checkpoint(State(state.done + 1, [*state.sums, await flows.plus(state.done)]))

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(counts)
            await client.start(counts, trace.path, run_id="r")
            await trace.until(1)
            await engine.crash()
            passes.clear()
            flows.open_gate(trace.path, "gate")
            client = await engine.open(counts)
            run = await client.get("r")
            assert await outcome(run) == [1, 2, 3, 4, 5, 6]
            assert passes == [3, 4, 5, 6]
            await sound(run)

    async def test_23_a_finished_run_is_the_same_on_every_replay(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(mixed, flows.twice)
            run = await client.start(mixed, run_id="r")
            live = await outcome(run)
            assert len({line.split()[0] for line in live}) == 4
            client = await engine.restart()
            assert await outcome(await client.get("r")) == live
            forked = await (await client.get("r")).fork(run_id="again")
            assert await outcome(forked) == live

    async def test_23_random_numbers_go_on_across_a_crash(self) -> None:
        @aob.workflow
        async def draws() -> list[float]:
            drawn: list[float] = aob.checkpoint_state(list[float]) or []
            if len(drawn) == 6:
                return drawn
            await aob.wait_signal("go")
            aob.checkpoint([*drawn, aob.random().random()])

        async with self.engine() as engine:
            client = await engine.open(draws)
            run = await client.start(draws, run_id="r")
            for _ in range(6):
                await run.signal("go")
            live = await outcome(run)
            assert len(set(live)) == 6
            twin = await run.fork(at=None, run_id="twin")
            assert await outcome(twin) == live

            run = await client.start(draws, run_id="crashing")
            for n in range(6):
                await run.signal("go")
                await has(run, "checkpoint", n + 1)
                client = await engine.restart()
                run = await client.get("crashing")
            drawn = await outcome(run)
            assert len(set(drawn)) == 6
            assert not set(drawn) & set(live)

    # --- the window -------------------------------------------------------------------------------

    async def test_23_signals_updates_and_their_ids_cross_it(self) -> None:
        async with self.beside(collects) as (engine, client, other):
            run = await client.start(collects, run_id="r")
            there = await other.get("r")
            for n in range(30):
                handle = there if n % 3 == 1 else run
                if n % 5 == 4:
                    await handle.update("put", n, id=f"u{n}")
                else:
                    await handle.signal("go", n, id=f"s{n}")
            await run.signal("go", 0, id="s0")
            assert await run.update("put", 4, id="u4") > 0
            client = await engine.restart(collects)
            run = await client.get("r")
            await run.signal("go", 29, id="s28")
            assert await run.update("put", 4, id="u4") > 0
            await run.signal("go", "end")
            assert sorted(await outcome(run)) == list(range(30))
            events = await sound(run)
            assert len([e for e in events if e.kind == "checkpoint"]) >= 25

    async def test_23_a_crash_after_every_message_loses_and_doubles_none(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(collects, max_deaths=100)
            run = await client.start(collects, run_id="r")
            for n in range(8):
                sent = run.update("put", n, id=str(n)) if n % 2 else run.signal("go", n, id=str(n))
                await sent
                client = await engine.restart()
                run = await client.get("r")
                again = run.update("put", n, id=str(n)) if n % 2 else run.signal("go", n, id=str(n))
                await again
                assert await run.status() != "parked"
            await run.signal("go", "end")
            assert await outcome(run) == list(range(8))
            await sound(run)

    async def test_23_signals_at_once_arrive_in_the_window_and_are_kept_in_order(self) -> None:
        async with self.beside(collects) as (_, client, other):
            run = await client.start(collects, run_id="r")
            there = await other.get("r")

            async def sender(handle: aob.Run[Any], name: str) -> None:
                for n in range(40):
                    await handle.signal("go", f"{name}{n}")

            await asyncio.gather(sender(run, "a"), sender(there, "b"))
            await there.signal("go", "end")
            await has(run, "signal_received", 81)
            got = await outcome(run)
            for name in "ab":
                assert [g for g in got if g.startswith(name)] == [f"{name}{n}" for n in range(40)]

    async def test_23_unread_signals_are_carried_over(self) -> None:
        @aob.workflow
        async def later() -> list[Any]:
            if aob.checkpoint_state() is None:
                await aob.wait_signal("go")
                aob.checkpoint(1)
            return [await aob.wait_signal("kept") for _ in range(3)]

        async with self.engine() as engine:
            client = await engine.open(later)
            run = await client.start(later, run_id="r")
            for n in range(2):
                await run.signal("kept", n)
            await run.signal("other")
            await run.signal("go")
            await has(run, "checkpoint")
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("kept", 2)
            assert await outcome(run) == [0, 1, 2]
            assert (await run.history())[-1].data["unread"] == {"other": 1}

    async def test_23_a_cancel_in_the_window_is_not_lost(self) -> None:
        @aob.workflow
        async def endless() -> None:
            done: int = aob.checkpoint_state(int) or 0
            await flows.plus(done)
            aob.checkpoint(done + 1)

        async with self.beside(endless) as (_, client, other):
            for n in range(10):
                run = await client.start(endless, run_id=f"r{n}")
                await has(run, "checkpoint", 3 + n)
                await (run if n % 2 else await other.get(run.run_id)).cancel("enough")
                assert "enough" in str(await failure(run, aob.RunCancelled))
                await sound(run)

    async def test_23_a_cancel_that_ends_a_pause_in_front_of_a_checkpoint_is_not_lost(self) -> None:
        async with self.beside(collects) as (_, client, other):
            for n, from_here in enumerate((True, False)):
                run = await client.start(collects, run_id=f"r{n}")
                await run.signal("go", 0)
                await has(run, "checkpoint")
                await run.pause()
                await run.signal("go", 1)
                await run.signal("go", 2)
                await (run if from_here else await other.get(run.run_id)).cancel("enough")
                assert "enough" in str(await failure(run, aob.RunCancelled))
                await sound(run)

    async def test_23_a_pause_in_the_window_holds(self) -> None:
        @aob.workflow
        async def endless() -> None:
            done: int = aob.checkpoint_state(int) or 0
            await flows.plus(done)
            aob.checkpoint(done + 1)

        async with self.engine() as engine:
            client = await engine.open(endless)
            run = await client.start(endless, run_id="r")
            for _ in range(10):
                before = len(await of_kind(run, "checkpoint"))
                await has(run, "checkpoint", before + 2)
                await run.pause()
                await eventually(lambda run=run: _quiet(run), "the pause to hold")
                await run.resume()
            client = await engine.restart()
            run = await client.get("r")
            await run.cancel()
            await failure(run, aob.RunCancelled)
            await sound(run)

    # --- what it needs ----------------------------------------------------------------------------

    async def test_23_it_is_busy_while_something_is_outstanding_and_names_it(self) -> None:
        async def step(trace: str) -> Any:
            return asyncio.create_task(_await(flows.gate(trace, "never")))

        async def timer(_: str) -> Any:
            return asyncio.create_task(aob.sleep(60))

        async def child(_: str) -> Any:
            return asyncio.create_task(_await(flows.waits("never")))

        async def none(_: str) -> Any:
            return None

        holders = {"gate#1": step, "sleep#1": timer, "waits#1": child}

        @aob.workflow
        async def busy(trace: str, what: str) -> list[str]:
            held = await holders.get(what, none)(trace)
            await aob.wait_signal("go")
            try:
                aob.checkpoint(1)
            except aob.CheckpointBusy as e:
                if held is not None:
                    held.cancel()
                return [e.code, str(e)]

        async with self.engine() as engine:
            client = await engine.open(busy, flows.waits)
            trace = engine.trace()
            for what in holders:
                run = await client.start(busy, trace.path, what)
                await run.signal("go")
                code, message = await outcome(run)
                assert code == "checkpoint_busy"
                assert what in message

    async def test_23_it_is_refused_in_a_saga_in_another_task_and_while_an_update_runs(self) -> None:
        @aob.workflow
        async def busy(where: str) -> str:
            @aob.update
            async def slow() -> None:
                await aob.wait_signal("never")

            async def elsewhere() -> None:
                aob.checkpoint(1)

            if where == "update":
                await aob.wait_signal("go")
            try:
                if where == "saga":
                    async with aob.saga():
                        aob.checkpoint(1)
                if where == "compensations":
                    aob.compensate(print)
                if where == "task":
                    await asyncio.create_task(elsewhere())
                aob.checkpoint(1)
            except aob.CheckpointBusy as e:
                return str(e)

        async with self.serving(busy) as client:
            assert "saga" in await outcome(await client.start(busy, "saga"))
            assert "task" in await outcome(await client.start(busy, "task"))
            assert "compensations" in await outcome(await client.start(busy, "compensations"))
            run = await client.start(busy, "update")
            asking = asyncio.create_task(run.update("slow"))
            await has(run, "signal_received")
            await run.signal("go")
            assert "update/slow" in await outcome(run)
            assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], aob.RunFinished)

    async def test_23_it_does_not_return_whatever_stands_around_it(self) -> None:
        @aob.workflow
        async def stubborn(how: str) -> str:
            state = aob.checkpoint_state(str)
            if state is not None:
                return state
            try:
                if how == "group":
                    async with asyncio.TaskGroup():
                        aob.checkpoint(how)
                aob.checkpoint(how)
            except Exception:
                return "caught"
            except BaseException:
                if how == "swallowed":
                    return "swallowed it"
                raise
            finally:
                if how == "finally":
                    aob.emit("left")

        async with self.engine() as engine:
            client = await engine.open(stubborn)
            for how in ("plain", "group", "swallowed", "finally"):
                run = await client.start(stubborn, how, run_id=how)
                assert await outcome(run) == how
                assert len(await of_kind(run, "checkpoint")) == 1
                await sound(run)

    async def test_23_time_spent_and_limits_go_on(self) -> None:
        @aob.workflow(timeout=0.6, limits=aob.Limits(steps=5))
        async def endless(seconds: float) -> None:
            done: int = aob.checkpoint_state(int) or 0
            if seconds:
                await aob.sleep(seconds)
            else:
                await flows.plus(done)
            aob.checkpoint(done + 1)

        async with self.engine() as engine:
            client = await engine.open(endless)
            run = await client.start(endless, 0.05, run_id="time")
            await has(run, "checkpoint", 2)
            client = await engine.restart()
            await failure(await client.get("time"), aob.RunTimedOut)
            run = await client.start(endless, 0.0, run_id="steps")
            error = await failure(run)
            assert isinstance(error.__cause__, aob.BudgetExhausted)
            assert len(await of_kind(run, "checkpoint")) == 5

    async def test_23_a_cancelled_run_cannot_escape_into_another_pass(self) -> None:
        @aob.workflow(cancel_grace=0.3)
        async def escapes(trace: str) -> None:
            done: int = aob.checkpoint_state(int) or 0
            try:
                await aob.wait_signal("never")
            except asyncio.CancelledError:
                await note(trace, f"escaped {done}")
                aob.checkpoint(done + 1)

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(escapes)
            run = await client.start(escapes, trace.path, run_id="r")
            await reaches(run, "waiting")
            await run.cancel("enough")
            assert "enough" in str(await failure(run, aob.RunCancelled))
            assert trace.lines() == ["escaped 0"]

    # --- long -------------------------------------------------------------------------------------

    async def test_23_twenty_thousand_passes_take_no_more_memory_than_a_few_and_one_to_recover(self) -> None:
        passes: list[int] = []
        sizes: dict[int, int] = {}

        @aob.workflow
        async def long(rounds: int) -> int:
            done: int = aob.checkpoint_state(int) or 0
            passes.append(done)
            if done in (2_000, rounds):
                gc.collect()
                sizes[done] = len(gc.get_objects())
                if done == rounds:
                    await aob.wait_signal("go")
                    return done
            await aob.side_effect(lambda: done)
            aob.checkpoint(done + 1)

        async with self.engine() as engine:
            client = await engine.open(long)
            run = await client.start(long, 20_000, run_id="r")
            await eventually(lambda: 20_000 in sizes, "20,000 passes", timeout=200.0)
            assert len(passes) == 20_001
            if "processes" in engine.capabilities:  # else the store itself is in this memory
                assert sizes[20_000] - sizes[2_000] < 2_000
            passes.clear()
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            assert await outcome(run) == 20_000
            assert passes == [20_000]
            assert len(await of_kind(run, "checkpoint")) == 20_000


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _quiet(run: aob.Run[Any]) -> bool:
    before = len(await run.history())
    await asyncio.sleep(0.05)
    return len(await run.history()) == before
