"""Item 21: a cancel is asyncio's, once; cleanup may run steps; children end with their parent."""

from __future__ import annotations

import asyncio
from typing import Any

import aob
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, so_far, sound
from aob.testing.conformance.engine_harness import eventually, outcome, reaches


@aob.activity
async def note(trace: str, line: str) -> str:
    flows.leave(trace, line)
    return line


@aob.activity
async def hangs(trace: str) -> None:
    """Leaves lines when it begins, and when it is told to stop."""
    flows.leave(trace, "began")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        flows.leave(trace, f"told {aob.info().cancelled}")
        raise


@aob.activity(on_cancel="wait")
async def takes_leave(trace: str) -> None:
    """Needs a gate to stop."""
    flows.leave(trace, "began")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        flows.leave(trace, "told")
        await flows.gate.plan.fn(trace, "leave")
        raise


@aob.workflow
async def cleans(trace: str) -> str:
    """Hangs in a step, and cleans up with two when it is cancelled."""
    try:
        await hangs(trace)
    except asyncio.CancelledError:
        await note(trace, "clean 1")
        await aob.sleep(0.05)
        await note(trace, "clean 2")
        raise
    return "done"


@aob.workflow
async def waits_for_leave(trace: str) -> None:
    try:
        await takes_leave(trace)
    finally:
        await note(trace, "after")


@aob.workflow(cancel_grace=0.3)
async def dawdles(trace: str) -> None:
    try:
        await aob.wait_signal("never")
    finally:
        await note(trace, "cleaning")
        await aob.wait_signal("never")


@aob.workflow
async def parent(trace: str, detached: bool = False, how: str = "") -> Any:
    """Starts a child that hangs; ends as told."""
    child = cleans.options(run_id="child", detached=detached)
    waiting = asyncio.create_task(child(trace))
    await aob.wait_signal("go")
    if how == "cancel":
        waiting.cancel()
        await asyncio.wait([waiting])
        await aob.wait_signal("end")
    if how == "fail":
        raise ValueError("parent")
    return "parent"


class CancelTests(BesideSetting):
    """Item 21."""

    async def test_21_cancel_raises_in_the_step_and_cleanup_may_run_steps(self) -> None:
        async with self.beside(cleans) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(cleans, trace.path, run_id=f"r{n}")
                await trace.until(1)
                await (run if from_here else await other.get(f"r{n}")).cancel("enough")
                error = await failure(run, aob.RunCancelled)
                assert "enough" in str(error)
                assert sorted(trace.lines()) == ["began", "clean 1", "clean 2", "told True"]
                assert (await sound(run))[-1].data["reason"] == "enough"
                assert await run.status() == "cancelled"

    async def test_21_another_process_cancels(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            trace = engine.trace()
            client = await engine.open(cleans)
            run = await client.start(cleans, trace.path, run_id="r")
            await trace.until(1)
            process = await engine.process()
            await process.run("r", "cancel", "enough")
            await failure(run, aob.RunCancelled)
            assert "clean 2" in trace.lines()

    async def test_21_cleanup_goes_on_after_a_crash_and_the_step_is_not_tried_again(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()

            @aob.workflow
            async def careful(path: str) -> None:
                try:
                    await hangs(path)
                finally:
                    await note(path, "clean 1")
                    await flows.gate(path, "clean")
                    await note(path, "clean 2")

            client = await engine.open(careful)
            run = await client.start(careful, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel("enough")
            await eventually(lambda: "clean" in trace.lines(), "the gate")
            await engine.crash()
            flows.open_gate(trace.path, "clean")
            client = await engine.open(careful)
            await failure(await client.get("r"), aob.RunCancelled)
            lines = trace.lines()
            assert lines.count("began") == lines.count("clean 1") == lines.count("clean 2") == 1

    async def test_21_a_cancel_that_was_recorded_is_carried_out_after_a_crash(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(cleans)
            await client.start(cleans, trace.path, run_id="r")
            await trace.until(1)
            await engine.crash()
            client = await engine.open()
            await (await client.get("r")).cancel("while nobody served")
            client = await engine.open(cleans)
            run = await client.get("r")
            error = await failure(run, aob.RunCancelled)
            assert "while nobody served" in str(error)
            assert [line for line in trace.lines() if line.startswith("clean")] == ["clean 1", "clean 2"]

    async def test_21_a_run_that_waits_is_cancelled(self) -> None:
        async with self.beside(flows.waits, flows.sleeper) as (_, client, other):
            waiting = await client.start(flows.waits, "go", run_id="waiting")
            sleeping = await client.start(flows.sleeper, 1000.0, run_id="sleeping")
            await reaches(waiting, "waiting")
            await waiting.cancel()
            await (await other.get("sleeping")).cancel()
            for run in (waiting, sleeping):
                await failure(run, aob.RunCancelled)
                await sound(run)

    async def test_21_a_second_cancel_changes_nothing(self) -> None:
        async with self.beside(cleans, waits_for_leave) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(waits_for_leave, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel("first")
            await trace.until(2)
            await run.cancel("second")
            await (await other.get("r")).cancel("third")
            flows.open_gate(trace.path, "leave")
            assert "first" in str(await failure(run, aob.RunCancelled))
            assert len(await of_kind(run, "cancel_requested")) == 1
            assert trace.lines().count("after") == 1
            await run.cancel("after the end")
            assert (await sound(run))[-1].kind == "run_cancelled"

    async def test_21_cancels_at_once_count_once(self) -> None:
        async with self.beside(flows.waits) as (_, client, other):
            run = await client.start(flows.waits, "go", run_id="r")
            there = await other.get("r")
            await asyncio.gather(*(h.cancel(str(n)) for n, h in enumerate([run, there] * 10)))
            await failure(run, aob.RunCancelled)
            await sound(run)

    # --- waiting for a step to stop ---------------------------------------------------------------

    async def test_21_wait_raises_when_the_attempt_has_stopped(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(waits_for_leave)
            run = await client.start(waits_for_leave, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel()
            await trace.until(3)
            await a_while()
            assert trace.lines() == ["began", "told", "leave"]
            flows.open_gate(trace.path, "leave")
            await failure(run, aob.RunCancelled)
            assert trace.lines()[-2:] == ["through leave", "after"]

    async def test_21_wait_is_not_tried_again_after_a_crash(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(waits_for_leave)
            run = await client.start(waits_for_leave, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel()
            await trace.until(3)
            client = await engine.restart()
            run = await client.get("r")
            await failure(run, aob.RunCancelled)
            lines = trace.lines()
            assert lines.count("began") == 1
            assert lines.count("after") == 1
            await sound(run)

    async def test_21_wait_for_a_step_of_a_thread_lasts_until_it_returns(self) -> None:
        seen: list[str] = []
        ends: list[bool] = []

        @aob.activity(on_cancel="wait")
        def blocking() -> str:
            seen.append("began")
            while not aob.info().cancelled:
                pass
            seen.append("told")
            while not ends:
                pass
            seen.append("ended")
            return "late"

        @aob.workflow
        async def works() -> None:
            try:
                await blocking()
            finally:
                seen.append("raised")

        async with self.serving(works) as client:
            run = await client.start(works)
            await so_far(seen, 1)
            await run.cancel()
            await so_far(seen, 2)
            await a_while(0.1)
            ends.append(True)
            await failure(run, aob.RunCancelled)
            assert seen == ["began", "told", "ended", "raised"]
            assert [e.data["outcome"] for e in await of_kind(run, "late")] == ["completed"]

    async def test_21_a_late_result_is_noted_and_changes_nothing(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(flows.stubborn)
            run = await client.start(flows.stubborn, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel()
            await failure(run, aob.RunCancelled)
            flows.open_gate(trace.path, "stubborn")
            (late,) = await has(run, "late")
            assert (late.step, late.data["outcome"], late.data["result"]) == ("stubborn#1", "completed", "stubborn")
            await sound(run)
            assert await run.status() == "cancelled"

    # --- going on ---------------------------------------------------------------------------------

    async def test_21_cleanup_that_lasts_longer_than_its_grace_is_ended(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(dawdles)
            run = await client.start(dawdles, trace.path, run_id="r")
            await reaches(run, "waiting")
            await run.cancel("enough")
            await has(run, "step_completed")
            client = await engine.restart()
            run = await client.get("r")
            assert "enough" in str(await failure(run, aob.RunCancelled))
            assert trace.lines() == ["cleaning"]
            assert "grace#1" in [e.step for e in await sound(run)]

    async def test_21_a_workflow_that_uncancels_goes_on(self) -> None:
        @aob.workflow(cancel_grace=0.2)
        async def goes_on() -> list[str]:
            got: list[str] = []
            for _ in range(2):
                try:
                    await aob.wait_signal("never")
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
                    got.append("no")
                await aob.sleep(0.6)
            return got

        async with self.engine() as engine:
            client = await engine.open(goes_on)
            run = await client.start(goes_on, run_id="r")
            await run.cancel("first")
            await has(run, "timer_fired", 2)
            client = await engine.restart()
            run = await client.get("r")
            await run.cancel("second")
            assert await outcome(run) == ["no", "no"]
            assert len(await of_kind(run, "cancel_requested")) == 2

    async def test_21_a_workflow_that_swallows_its_cancel_ends_as_cancelled(self) -> None:
        @aob.workflow
        async def swallows() -> str:
            try:
                await aob.wait_signal("never")
            except asyncio.CancelledError:
                return "in spite of it"
            return ""

        async with self.serving(swallows) as client:
            run = await client.start(swallows)
            await run.cancel()
            await failure(run, aob.RunCancelled)

    async def test_21_cancel_reaches_every_task_of_a_group(self) -> None:
        @aob.workflow
        async def groups(trace: str) -> None:
            async def one(n: int) -> None:
                try:
                    await hangs(trace)
                finally:
                    await note(trace, f"clean {n}")

            async with asyncio.TaskGroup() as group:
                for n in range(3):
                    group.create_task(one(n))

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(groups)
            run = await client.start(groups, trace.path, run_id="r")
            await trace.until(3)
            await run.cancel()
            await failure(run, aob.RunCancelled)
            assert sorted(line for line in trace.lines() if "clean" in line) == ["clean 0", "clean 1", "clean 2"]

    async def test_21_a_cancel_before_its_start_time_and_before_it_has_begun(self) -> None:
        async with self.engine() as engine:
            other = await engine.open()
            await other.start(flows.waits, "go", run_id="pending")
            await (await other.get("pending")).cancel("too early")
            client = await engine.open(flows.waits, flows.sleeper)
            later = aob.now().replace(year=aob.now().year + 1)
            run = await client.start(flows.sleeper, 0.1, run_id="later", start_at=later)
            await run.cancel("too early")
            for handle in (run, await client.get("pending")):
                assert "too early" in str(await failure(handle, aob.RunCancelled))
                assert (await sound(handle))[0].kind == "run_started"

    # --- pause ------------------------------------------------------------------------------------

    async def test_21_cancel_ends_a_pause(self) -> None:
        async with self.beside(cleans) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(cleans, trace.path, run_id=f"r{n}")
                await trace.until(1)
                await run.pause()
                await (run if from_here else await other.get(f"r{n}")).cancel()
                await failure(run, aob.RunCancelled)
                assert trace.lines().count("clean 2") == 1
                await sound(run)

    async def test_21_cancel_during_a_pause_across_a_crash(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(cleans)
            run = await client.start(cleans, trace.path, run_id="r")
            await trace.until(1)
            await run.pause()
            client = await engine.restart()
            run = await client.get("r")
            await a_while()
            assert trace.lines().count("began") == 1
            await run.cancel()
            await failure(run, aob.RunCancelled)
            assert trace.lines().count("began") == trace.lines().count("clean 2") == 1

    # --- children ---------------------------------------------------------------------------------

    async def test_21_children_are_cancelled_with_their_parent(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, cleans)
            run = await client.start(parent, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel()
            await failure(run, aob.RunCancelled)
            child = await client.get("child")
            await failure(child, aob.RunCancelled)
            assert "clean 2" in trace.lines()

    async def test_21_children_are_cancelled_when_their_parent_ends_however_it_ends(self) -> None:
        async with self.beside(parent, cleans) as (engine, client, other):
            for how in ("return", "fail", "terminate", "terminate there"):
                trace = engine.trace(how.replace(" ", "-"))
                run = await client.start(parent, trace.path, False, how, run_id=how.replace(" ", "-"))
                await trace.until(1)
                if how == "terminate":
                    await run.terminate("now")
                elif how == "terminate there":
                    await (await other.get(run.run_id)).terminate("now")
                else:
                    await run.signal("go")
                child = await client.get("child")
                assert run.run_id in str(await failure(child, aob.RunCancelled))
                await sound(run)
                await client.delete(run.run_id)
                await client.delete("child")

    async def test_21_children_are_cancelled_though_nobody_serves_when_their_parent_ends(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, cleans)
            await client.start(parent, trace.path, run_id="r")
            await trace.until(1)
            await engine.close()
            client = await engine.open()
            await (await client.get("r")).terminate("while nobody served")
            client = await engine.open(parent, cleans)
            await failure(await client.get("child"), aob.RunCancelled)

    async def test_21_a_child_that_is_no_longer_awaited_is_cancelled(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, cleans)
            run = await client.start(parent, trace.path, False, "cancel", run_id="r")
            await trace.until(1)
            await run.signal("go")
            await failure(await client.get("child"), aob.RunCancelled)
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("end")
            assert await outcome(run) == "parent"
            await sound(run)

    async def test_21_detached_children_go_on(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(parent, cleans)
            for how in ("return", "cancel", "terminate"):
                trace = engine.trace(how)
                run = await client.start(parent, trace.path, True, how, run_id=how)
                await trace.until(1)
                await (run.signal("go") if how == "return" else run.cancel() if how == "cancel" else run.terminate())
                await eventually(lambda run=run: _ended(run), "the parent's end")
                child = await client.get("child")
                await a_while()
                assert await child.status() == "running"
                await child.cancel()
                await failure(child, aob.RunCancelled)
                await client.delete("child")

    async def test_21_grandchildren_are_cancelled_too(self) -> None:
        @aob.workflow
        async def grand(trace: str) -> None:
            await parent(trace)

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(grand, parent, cleans)
            run = await client.start(grand, trace.path, run_id="g")
            await trace.until(1)
            await run.cancel()
            for run_id in ("g", "g~parent.1", "child"):
                await failure(await client.get(run_id), aob.RunCancelled)
            assert "clean 2" in trace.lines()


async def _ended(run: aob.Run[Any]) -> bool:
    return await run.status() in ("completed", "cancelled", "terminated")
