"""Item 26: limits count down the tree, and cannot be outrun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aob
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_setting import BesideSetting, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import outcome


@aob.workflow
async def steps(count: int) -> int:
    """So many steps, one after another."""
    for n in range(count):
        await flows.plus(n)
    return count


@aob.workflow(limits=aob.Limits(steps=3))
async def few(count: int) -> int:
    for n in range(count):
        await flows.plus(n)
    return count


@aob.workflow
async def nests(levels: int) -> int:
    """A child in a child, so many levels deep."""
    return 1 + await nests(levels - 1) if levels else 0


@aob.workflow
async def spreads(width: int, levels: int) -> int:
    """A tree of children; how many runs it is."""
    return 1 + sum([await spreads(width, levels - 1) for _ in range(width)] if levels else [])


def exhausted(error: BaseException | None) -> str:
    """The limit that ended a run."""
    assert error is not None
    cause = error.__cause__
    assert isinstance(cause, aob.BudgetExhausted), repr(cause)
    return cause.limit


class LimitTests(BesideSetting):
    """Item 26."""

    async def test_26_the_call_after_the_limit_ends_the_run_and_names_it(self) -> None:
        async with self.serving(few) as client:
            assert await outcome(await client.start(few, 3)) == 3
            run = await client.start(few, 4)
            error = await failure(run)
            assert exhausted(error) == "steps"
            assert "steps" in str(error.__cause__)
            assert error.details["failure"]["code"] == "budget_exhausted"  # type: ignore[index]
            assert len(await of_kind(run, "step_completed")) == 3
            await sound(run)

    async def test_26_a_limit_counts_on_across_a_crash(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=3))
        async def slow(trace: str) -> list[str]:
            return [
                await note(trace, "1"),
                await flows.gate(trace, "2"),
                await note(trace, "3"),
                await note(trace, "4"),
            ]

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(slow)
            await client.start(slow, trace.path, run_id="r")
            await trace.until(2)
            await engine.crash()
            flows.open_gate(trace.path, "2")
            client = await engine.open(slow)
            assert exhausted(await failure(await client.get("r"))) == "steps"
            assert trace.lines()[-1] == "3"

    async def test_26_a_workflow_that_swallows_it_does_not_outrun_it(self) -> None:
        calls: list[int] = []

        @aob.workflow(limits=aob.Limits(steps=5))
        async def swallows(how: str) -> str:
            for n in range(1_000_000):
                calls.append(n)
                try:
                    await (flows.plus(n) if how != "child" else steps(1))
                except aob.BudgetExhausted:
                    if how == "returns":
                        return "in spite of it"
                except BaseException:
                    if how != "all" or len(calls) > 500:
                        raise
            return "outrun"

        async with self.engine() as engine:
            client = await engine.open(swallows, steps)
            for how in ("goes on", "returns", "all", "child"):
                calls.clear()
                run = await client.start(swallows, how, run_id=how.replace(" ", "-"))
                assert exhausted(await failure(run)) == "steps"
                assert len(calls) < (60 if how != "all" else 600)
                ended = len(await of_kind(run, "step_completed")) + len(await of_kind(run, "step_failed"))
                assert 2 <= ended < 60
                await sound(run)
            client = await engine.restart()
            assert exhausted(await failure(await client.get("goes-on"))) == "steps"

    async def test_26_swallowing_across_checkpoints_does_not_outrun_it(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=5))
        async def swallows() -> None:
            done: int = aob.checkpoint_state(int) or 0
            try:
                await flows.plus(done)
            except aob.BudgetExhausted:
                aob.emit("swallowed")
            aob.checkpoint(done + 1)

        async with self.serving(swallows) as client:
            run = await client.start(swallows)
            assert exhausted(await failure(run)) == "steps"
            assert len(await of_kind(run, "checkpoint")) < 60
            await sound(run)

    async def test_26_cleanup_has_a_small_reserve(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=2))
        async def cleans(trace: str) -> None:
            try:
                for n in range(10):
                    await flows.plus(n)
            finally:
                for n in range(3):
                    await note(trace, f"clean {n}")

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(cleans)
            run = await client.start(cleans, trace.path, run_id="r")
            assert exhausted(await failure(run)) == "steps"
            assert trace.lines() == ["clean 0", "clean 1", "clean 2"]

    async def test_26_compensations_have_the_reserve_too(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=2))
        async def undoes(trace: str) -> None:
            async with aob.saga():
                for n in range(5):
                    aob.compensate(note, trace, f"undo {n}")
                    await flows.plus(n)

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(undoes)
            assert exhausted(await failure(await client.start(undoes, trace.path))) == "steps"
            assert trace.lines() == ["undo 2", "undo 1", "undo 0"]

    async def test_26_all_kinds_of_steps_count(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=4))
        async def kinds_of() -> None:
            await flows.plus(1)
            await aob.side_effect(lambda: 1)
            await aob.signal_run(aob.info().run_id, "self")
            await steps(0)
            await aob.approval("one too many")

        async with self.serving(kinds_of, steps) as client:
            run = await client.start(kinds_of)
            assert exhausted(await failure(run)) == "steps"
            assert len(await of_kind(run, "step_completed")) == 4
            assert await client.tickets() == []

    # --- down the tree ----------------------------------------------------------------------------

    async def test_26_a_child_spends_its_parents_steps(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=10))
        async def parent(first: int, second: int) -> str:
            await steps(first)
            await steps(second)
            return "within"

        async with self.engine() as engine:
            client = await engine.open(parent, steps)
            assert await outcome(await client.start(parent, 4, 4)) == "within"
            run = await client.start(parent, 4, 5, run_id="r")
            error = await failure(run)
            assert exhausted(error) == "steps"
            child = await client.get("r~steps.2")
            assert exhausted(await failure(child)) == "steps"
            assert len(await of_kind(child, "step_completed")) == 4

    async def test_26_what_a_child_spent_counts_for_its_parent_across_a_crash(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=6))
        async def parent(trace: str) -> str:
            await steps(3)
            await flows.gate(trace, "gate")
            await note(trace, "sixth")
            await note(trace, "seventh")
            return "outrun"

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, steps)
            run = await client.start(parent, trace.path, run_id="r")
            await trace.until(1)
            assert (await of_kind(run, "step_completed"))[0].data["used"] == {"steps": 3}
            await engine.crash()
            flows.open_gate(trace.path, "gate")
            client = await engine.open(parent, steps)
            assert exhausted(await failure(await client.get("r"))) == "steps"
            assert trace.lines()[-1] == "sixth"

    async def test_26_what_a_child_spent_counts_though_it_failed_or_ended_while_its_parent_was_away(self) -> None:
        @aob.workflow
        async def spends(trace: str) -> None:
            await steps(2)
            await flows.gate(trace, "child")
            raise ValueError("spent")

        @aob.workflow(limits=aob.Limits(steps=5))
        async def parent(trace: str) -> str:
            try:
                await spends(trace)
            except aob.RunFailed:
                await note(trace, "outrun")
            return "returned"

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, spends, steps, resident_runs=1, evict_after=0.0)
            run = await client.start(parent, trace.path, run_id="r")
            await trace.until(1)
            flows.open_gate(trace.path, "child")
            assert exhausted(await failure(run)) == "steps"
            (failed,) = await of_kind(run, "step_failed")
            assert failed.data["used"] == {"steps": 4}
            assert "outrun" not in trace.lines()

    async def test_26_a_grandchilds_steps_count_at_the_top(self) -> None:
        @aob.workflow
        async def middle(count: int) -> int:
            return await steps(count)

        @aob.workflow(limits=aob.Limits(steps=8))
        async def top(count: int, more: int) -> str:
            await middle(count)
            for n in range(more):
                await flows.plus(n)
            return "within"

        async with self.serving(top, middle, steps) as client:
            assert await outcome(await client.start(top, 3, 3)) == "within"
            assert exhausted(await failure(await client.start(top, 3, 4))) == "steps"
            assert exhausted(await failure(await client.start(top, 7, 0))) == "steps"

    async def test_26_a_childs_own_limit_is_its_own(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=100))
        async def parent() -> list[Any]:
            try:
                await few(4)
            except aob.RunFailed as e:
                cause = e.__cause__.__cause__ if e.__cause__ else None
                return [type(cause).__name__, getattr(cause, "limit", None), await flows.plus(1)]
            return []

        async with self.serving(parent, few) as client:
            assert await outcome(await client.start(parent)) == ["BudgetExhausted", "steps", 2]

    async def test_26_children_and_depth_count_down_the_tree(self) -> None:
        @aob.workflow(limits=aob.Limits(depth=2))
        async def deep(levels: int) -> int:
            return await nests(levels)

        @aob.workflow(limits=aob.Limits(children=6))
        async def wide(width: int, levels: int) -> int:
            return await spreads(width, levels)

        @aob.workflow(limits=aob.Limits(depth=0))
        async def alone() -> int:
            return await nests(0)

        async with self.serving(deep, wide, alone, nests, spreads) as client:
            assert await outcome(await client.start(deep, 1)) == 1
            assert exhausted(await failure(await client.start(deep, 2))) == "depth"
            assert exhausted(await failure(await client.start(alone))) == "depth"
            assert await outcome(await client.start(wide, 5, 1)) == 6
            assert exhausted(await failure(await client.start(wide, 6, 1))) == "children"
            assert exhausted(await failure(await client.start(wide, 2, 2))) == "children"

    async def test_26_children_side_by_side_do_not_outrun_it(self) -> None:
        @aob.workflow(limits=aob.Limits(steps=12))
        async def parent() -> str:
            for _ in range(100):
                await asyncio.gather(*(_await(steps(3)) for _ in range(3)))
            return "outrun"

        async with self.serving(parent, steps) as client:
            run = await client.start(parent, run_id="r")
            assert exhausted(await failure(run)) == "steps"
            assert len(await client.list(limit=1000)) <= 7

    # --- time -------------------------------------------------------------------------------------

    async def test_26_the_smaller_of_timeout_and_wall_time_ends_the_run_as_timed_out(self) -> None:
        @aob.workflow(timeout=0.3, limits=aob.Limits(wall_time=60))
        async def by_timeout() -> None:
            await aob.wait_signal("never")

        @aob.workflow(timeout=60, limits=aob.Limits(wall_time=0.3))
        async def by_wall_time() -> None:
            await aob.wait_signal("never")

        async with self.serving(by_timeout, by_wall_time) as client:
            for flow in (by_timeout, by_wall_time):
                run = await client.start(flow)
                error = await failure(run, aob.RunTimedOut)
                assert isinstance(error, aob.RunFailed)
                assert await run.status() == "timed_out"
                assert (await sound(run))[-1].kind == "run_timed_out"

    async def test_26_a_run_that_timed_out_may_clean_up_within_its_grace(self) -> None:
        @aob.workflow(timeout=0.2, cancel_grace=0.4)
        async def limited(trace: str, how: str) -> str:
            try:
                await aob.wait_signal("never")
            except asyncio.CancelledError:
                await note(trace, "clean")
                if how == "dawdles":
                    await aob.wait_signal("never")
                if how == "swallows":
                    return "in spite of it"
                raise
            return ""

        async with self.engine() as engine:
            client = await engine.open(limited)
            for how in ("raises", "dawdles", "swallows"):
                trace = engine.trace(how)
                await failure(await client.start(limited, trace.path, how), aob.RunTimedOut)
                assert trace.lines() == ["clean"]

    async def test_26_a_timeout_of_the_start_counts_and_lasts_across_a_crash(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.waits)
            await client.start(flows.waits, "go", run_id="short", timeout=0.5)
            await client.start(flows.waits, "go", run_id="long", timeout=60)
            await engine.crash()
            await asyncio.sleep(0.5)
            client = await engine.open(flows.waits)
            await failure(await client.get("short"), aob.RunTimedOut)
            assert await (await client.get("long")).status() == "waiting"

    async def test_26_a_child_does_not_outlive_its_parents_time(self) -> None:
        @aob.workflow(timeout=0.4)
        async def parent() -> None:
            await flows.waits.options(run_id="child")("go")

        async with self.serving(parent, flows.waits) as client:
            run = await client.start(parent)
            await failure(run, aob.RunTimedOut)
            await failure(await client.get("child"), aob.RunCancelled)
            await has(run, "run_timed_out")

    async def test_26_a_limit_that_makes_no_sense_is_refused(self) -> None:
        makers: dict[str, Callable[[], aob.Limits]] = {
            "steps": lambda: aob.Limits(steps=-1),
            "depth": lambda: aob.Limits(depth=-1),
            "wall_time": lambda: aob.Limits(wall_time=-0.1),
        }
        for name, make in makers.items():
            try:
                raise AssertionError(f"{make()} was not refused")
            except aob.AobError as e:
                assert name in str(e)


async def _await(awaitable: Any) -> Any:
    return await awaitable
