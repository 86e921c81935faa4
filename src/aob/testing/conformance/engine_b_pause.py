"""Item 22: a pause dispatches nothing new and loses nothing; terminate ends at once, without code."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aob
from aob.errors import RunFinished
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, outcome, reaches, refused


@aob.activity(retry=aob.Retry(initial=0.05, factor=1, jitter=0, max_attempts=0))
async def flaky(trace: str) -> str:
    """Fails until its gate is open."""
    flows.leave(trace, f"try {aob.info().attempt}")
    if not Path(f"{trace}.flaky").exists():  # noqa: ASYNC240 (a test makes it)
        raise ValueError("not yet")
    return "at last"


@aob.workflow
async def keeps_trying(trace: str) -> str:
    return await flaky(trace)


@aob.workflow
async def listens(trace: str) -> list[Any]:
    """Marks every signal with a step."""
    got: list[Any] = []

    @aob.query
    def seen() -> list[Any]:
        return got

    @aob.update
    async def put(value: int) -> int:
        got.append(value)
        await note(trace, f"put {value}")
        return value * 2

    async for signal in aob.signals("go"):
        if signal == "end":
            break
        got.append(signal)
        await note(trace, f"got {signal}")
    return got


class PauseTests(BesideSetting):
    """Item 22."""

    async def test_22_attempts_in_flight_finish_and_nothing_new_is_dispatched(self) -> None:
        async with self.beside(flows.gated) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(flows.gated, trace.path, run_id=f"r{n}")
                handle = run if from_here else await other.get(f"r{n}")
                await trace.until(2)
                await handle.pause("a look")
                assert await handle.status() == "paused"
                flows.open_gate(trace.path, "gate")
                await has(run, "step_completed", 2)
                await a_while()
                assert "after" not in trace.lines()
                await handle.pause()
                await handle.resume()
                assert await outcome(run) == ["before", "gate", "after"]
                assert [e.kind for e in await sound(run)].count("paused") == 1
                assert (await of_kind(run, "paused"))[0].data["reason"] == "a look"

    async def test_22_a_pause_lasts_across_a_crash_and_dispatches_nothing(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(flows.gated)
            run = await client.start(flows.gated, trace.path, run_id="r")
            await trace.until(2)
            await run.pause()
            client = await engine.restart()
            run = await client.get("r")
            flows.open_gate(trace.path, "gate")
            await a_while(0.3)
            assert await run.status() == "paused"
            assert trace.lines() == ["before", "gate"]
            await run.resume()
            assert await outcome(run) == ["before", "gate", "after"]
            assert trace.lines() == ["before", "gate", "gate", "through gate", "after"]

    async def test_22_what_arrives_is_recorded_and_applied_at_resume(self) -> None:
        async with self.beside(listens) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(listens, trace.path, run_id="r")
            await run.signal("go", 1)
            await trace.until(1)
            await run.pause()
            await run.signal("go", 2)
            await (await other.get("r")).signal("go", 3)
            asked = asyncio.create_task(run.update("put", 4, id="u"))
            await has(run, "signal_received", 4)
            await a_while(0.1)
            assert await run.query("seen") == [1]
            assert trace.lines() == ["got 1"]
            client = await engine.restart(listens)
            await asyncio.gather(asked, return_exceptions=True)
            run = await client.get("r")
            assert await run.query("seen") == [1]
            await run.resume()
            assert await run.update("put", 4, id="u") == 8
            await run.signal("go", "end")
            assert await outcome(run) == [1, 2, 4, 3] or await outcome(run) == [1, 2, 3, 4]
            assert sorted(trace.lines()) == ["got 1", "got 2", "got 3", "put 4"]
            await sound(run)

    async def test_22_timers_that_came_due_fire_at_resume(self) -> None:
        @aob.workflow
        async def sleeps() -> list[str]:
            got: list[str] = []

            async def nap(seconds: float) -> None:
                await aob.sleep(seconds)
                got.append(str(seconds))

            await asyncio.gather(nap(1.3), nap(1.2), nap(1.1))
            return got

        async with self.engine() as engine:
            client = await engine.open(sleeps)
            run = await client.start(sleeps, run_id="r")
            await run.pause()
            await a_while(1.6)
            assert await of_kind(run, "timer_fired") == []
            await run.resume()
            assert await outcome(run) == ["1.1", "1.2", "1.3"]

            run = await client.start(sleeps, run_id="restarted")
            await run.pause()
            await a_while(1.6)
            client = await engine.restart()
            run = await client.get("restarted")
            await a_while(0.1)
            assert await of_kind(run, "timer_fired") == []
            await run.resume()
            assert await outcome(run) == ["1.1", "1.2", "1.3"]

    async def test_22_nothing_is_retried(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(keeps_trying)
            run = await client.start(keeps_trying, trace.path, run_id="r")
            await trace.until(2)
            await run.pause()
            await a_while(0.1)
            tried = len(trace.lines())
            await a_while(0.3)
            client = await engine.restart()
            run = await client.get("r")
            await a_while(0.3)
            assert len(trace.lines()) == tried
            flows.open_gate(trace.path, "flaky")
            await run.resume()
            assert await outcome(run) == "at last"
            assert [f"try {n + 1}" for n in range(tried + 1)] == trace.lines()

    async def test_22_deadlines_go_on_counting(self) -> None:
        @aob.workflow(timeout=0.5)
        async def limited(trace: str) -> None:
            try:
                await flows.gate(trace, "gate")
            finally:
                await note(trace, "clean")

        async with self.engine() as engine:
            client = await engine.open(limited)
            for restarted in (False, True):
                trace = engine.trace(f"t{restarted}")
                run = await client.start(limited, trace.path, run_id=f"r{restarted}")
                await trace.until(1)
                await run.pause()
                if restarted:
                    client = await engine.restart()
                    run = await client.get(run.run_id)
                await failure(run, aob.RunTimedOut)
                assert trace.lines()[-1] == "clean"
                await sound(run)

    async def test_22_grace_goes_on_counting(self) -> None:
        @aob.workflow(cancel_grace=0.5)
        async def cleans(trace: str) -> None:
            try:
                await aob.wait_signal("never")
            finally:
                await flows.gate(trace, "clean")

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(cleans)
            run = await client.start(cleans, trace.path, run_id="r")
            await run.cancel()
            await trace.until(1)
            await run.pause()
            await failure(run, aob.RunCancelled)
            await sound(run)

    async def test_22_a_child_that_ends_meanwhile_is_heard_at_resume(self) -> None:
        @aob.workflow
        async def mother(trace: str) -> list[str]:
            return [*await flows.gated.options(run_id="child")(trace), await note(trace, "mother")]

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(mother, flows.gated)
            run = await client.start(mother, trace.path, run_id="r")
            await trace.until(2)
            await run.pause()
            client = await engine.restart()
            flows.open_gate(trace.path, "gate")
            assert await outcome(await client.get("child")) == ["before", "gate", "after"]
            run = await client.get("r")
            await a_while()
            assert "mother" not in trace.lines()
            client = await engine.restart()
            run = await client.get("r")
            await run.resume()
            assert await outcome(run) == ["before", "gate", "after", "mother"]
            await sound(run)

    async def test_22_pausing_and_resuming_again_and_again_changes_nothing_else(self) -> None:
        async with self.beside(flows.marks) as (engine, client, other):
            trace = engine.trace()
            lines = [str(n) for n in range(60)]
            run = await client.start(flows.marks, trace.path, lines, run_id="r")
            there = await other.get("r")
            for n in range(6):
                try:
                    await (there if n % 2 else run).pause()
                    await (run if n % 2 else there).resume()
                except RunFinished:
                    break
            assert await outcome(run) == lines
            assert trace.lines() == lines
            await sound(run)

    async def test_22_what_has_ended_is_not_paused_or_resumed(self) -> None:
        async with self.beside(flows.twice) as (_, client, other):
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            for handle in (run, await other.get("r")):
                await refused(handle.pause(), RunFinished)
                await refused(handle.resume(), RunFinished)

    # --- terminate --------------------------------------------------------------------------------

    async def test_22_terminate_ends_at_once_and_runs_no_code(self) -> None:
        async with self.beside(careful) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(careful, trace.path, run_id=f"r{n}")
                handle = run if from_here else await other.get(f"r{n}")
                await trace.until(1)
                await handle.terminate("now")
                assert "now" in str(await failure(run, aob.RunTerminated))
                await eventually(lambda trace=trace: "told True" in trace.lines(), "the attempt to be told")
                await a_while(0.1)
                assert trace.lines() == ["began", "told True"]
                assert (await sound(run))[-1].kind == "run_terminated"
                await handle.terminate("again")

    async def test_22_terminate_ends_what_is_paused_or_waits_or_cleans_up(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(careful, listens)
            trace = engine.trace()
            paused = await client.start(listens, trace.path, run_id="paused")
            await paused.pause()
            await paused.signal("go", 1)
            cleaning = await client.start(careful, trace.path, run_id="cleaning")
            await trace.until(1)
            await cleaning.cancel()
            waiting = await client.start(listens, trace.path, run_id="waiting")
            await reaches(waiting, "waiting")
            for run in (paused, cleaning, waiting):
                await run.terminate("now")
                await failure(run, aob.RunTerminated)
                await sound(run)
            client = await engine.restart()
            for run_id in ("paused", "cleaning", "waiting"):
                await failure(await client.get(run_id), aob.RunTerminated)
            await a_while(0.1)
            assert "got 1" not in trace.lines()

    async def test_22_terminate_applies_nothing_that_a_pause_held(self) -> None:
        seen: list[Any] = []

        @aob.workflow
        async def sees() -> None:
            async for signal in aob.signals("go"):
                seen.append(signal)

        async with self.engine() as engine:
            client = await engine.open(sees)
            run = await client.start(sees, run_id="r")
            await run.signal("go", 1)
            await run.pause()
            await run.signal("go", 2)
            await run.terminate("now")
            await failure(run, aob.RunTerminated)
            await a_while(0.1)
            assert seen == [1]

    async def test_22_terminate_is_no_end_for_what_has_ended_otherwise(self) -> None:
        async with self.beside(flows.twice) as (_, client, other):
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            for handle in (run, await other.get("r")):
                await refused(handle.terminate(), RunFinished)
            assert await run.status() == "completed"

    async def test_22_another_process_pauses_resumes_and_terminates(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            trace = engine.trace()
            client = await engine.open(flows.gated)
            run = await client.start(flows.gated, trace.path, run_id="r")
            await trace.until(2)
            process = await engine.process()
            await process.run("r", "pause", "a look")
            assert await run.status() == "paused"
            flows.open_gate(trace.path, "gate")
            await process.run("r", "resume")
            assert await outcome(run) == ["before", "gate", "after"]
            gone = await client.start(flows.waits, "go", run_id="gone")
            await process.run("gone", "terminate", "now")
            await failure(gone, aob.RunTerminated)


@aob.workflow
async def careful(trace: str) -> None:
    """Leaves lines if any of its code runs at the end."""
    try:
        await told(trace)
    except asyncio.CancelledError:
        await note(trace, "clean")
        await aob.wait_signal("never")
        raise


@aob.activity
async def told(trace: str) -> None:
    """Hangs until it is told to stop."""
    flows.leave(trace, "began")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        flows.leave(trace, f"told {aob.info().cancelled}")
        raise
