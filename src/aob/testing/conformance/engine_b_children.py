"""Children: runs of their own, whose end is a step of their parent, once, whoever was in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import aob
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, outcome, reaches


class Empty(Exception):
    """Can be rebuilt."""


@aob.activity
async def empties(shelf: str) -> None:
    raise Empty(shelf) from KeyError("behind it")


@aob.workflow
async def fails(shelf: str) -> None:
    await empties(shelf)


@aob.workflow
async def named(child_id: str, detached: bool, trace: str) -> Any:
    """One child with an id."""
    got = await flows.gated.options(run_id=child_id, detached=detached)(trace)
    return got.run_id if isinstance(got, aob.ChildHandle) else got


class ChildTests(BesideSetting):
    """Child runs."""

    async def test_child_is_a_run_of_its_own_named_after_its_parent(self) -> None:
        @aob.workflow
        async def parent() -> list[int]:
            return [await flows.twice(1), await flows.twice(10)]

        async with self.beside(parent) as (_, client, other):
            run = await client.start(parent, run_id="r")
            assert await outcome(run) == [3, 12]
            children = (await other.list(parent="r")).runs
            assert [c.run_id for c in children] == ["r~twice.2", "r~twice.1"]
            child = await other.get("r~twice.2")
            assert await outcome(child) == 12
            first = (await sound(child))[0]
            assert (first.data["parent"], first.data["parent_step"]) == ("r", "twice#2")
            scheduled = await of_kind(run, "step_scheduled")
            assert [e.data["target"] for e in scheduled] == ["r~twice.1", "r~twice.2"]

    async def test_child_whose_code_is_known_through_its_parent_alone_goes_on_after_a_restart(self) -> None:
        @aob.workflow
        async def parent() -> list[object]:
            return await flows.waits("go")

        async with self.engine() as engine:
            client = await engine.open(parent)
            for n, graceful in enumerate((False, True)):
                run = await client.start(parent, run_id=f"r{n}")
                await reaches(run, "waiting")
                await reaches(await client.get(f"r{n}~waits.1"), "waiting")
                client = await engine.restart(parent, graceful=graceful)
                await (await client.get(f"r{n}~waits.1")).signal("go", 1)
                await (await client.get(f"r{n}~waits.1")).signal("go", "end")
                assert await outcome(await client.get(f"r{n}")) == [1]

    async def test_child_that_fails_raises_with_the_whole_chain_of_causes(self) -> None:
        @aob.workflow
        async def middle() -> None:
            await fails("b7")

        @aob.workflow
        async def top() -> list[str]:
            try:
                await middle()
            except aob.RunFailed as e:
                chain: list[str] = []
                cause: BaseException | None = e
                while cause is not None:
                    if not isinstance(cause, aob.ActivityFailed):
                        chain.append(type(cause).__name__)
                    cause = cause.__cause__
                await aob.wait_signal("go")
                return [*chain, e.step or ""]
            return []

        async with self.engine() as engine:
            client = await engine.open(top, middle, fails)
            run = await client.start(top, run_id="r")
            await has(run, "step_failed")
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            assert await outcome(run) == ["RunFailed", "RunFailed", "Empty", "KeyError", "middle#1"]
            error = await failure(await client.get("r~middle.1"))
            assert "Empty" in str(error.__cause__)

    async def test_child_that_ends_otherwise_raises_what_says_so(self) -> None:
        @aob.workflow(timeout=0.2)
        async def short() -> None:
            await aob.wait_signal("never")

        @aob.workflow
        async def parent(how: str) -> str:
            try:
                await (short() if how == "time out" else flows.waits.options(run_id=f"child-{how}")("go"))
            except aob.RunFailed as e:
                return f"{type(e).__name__}: {e.message}"
            return ""

        async with self.serving(parent, short, flows.waits) as client:
            runs = {how: await client.start(parent, how) for how in ("cancel", "terminate", "time out")}
            await eventually(lambda: _exists(client, "child-terminate"), "the children")
            await eventually(lambda: _exists(client, "child-cancel"), "the children")
            await (await client.get("child-cancel")).cancel("for a reason")
            await (await client.get("child-terminate")).terminate("for another")
            assert (await outcome(runs["cancel"])).startswith("RunCancelled: child run child-cancel")
            assert "for a reason" in await outcome(runs["cancel"])
            assert (await outcome(runs["terminate"])).startswith("RunTerminated: ")
            assert (await outcome(runs["time out"])).startswith("RunTimedOut: ")

    async def test_child_and_parent_survive_crashes_at_any_time(self) -> None:
        @aob.workflow
        async def parent(trace: str) -> list[Any]:
            await note(trace, "parent")
            return [*await flows.gated(trace), await note(trace, "end")]

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, flows.gated, max_deaths=100)
            await client.start(parent, trace.path, run_id="r")
            for lines in (1, 2, 3):
                await trace.until(lines)
                client = await engine.restart()
            await eventually(lambda: "gate" in trace.lines(), "the gate")
            flows.open_gate(trace.path, "gate")
            client = await engine.restart()
            run = await client.get("r")
            assert await outcome(run) == ["before", "gate", "after", "end"]
            child = await client.get("r~gated.1")
            for handle in (run, child):
                await sound(handle)
            assert len(await client.list()) == 2

    async def test_child_ends_while_its_parent_is_out_of_memory(self) -> None:
        @aob.workflow
        async def parent(n: int) -> list[Any]:
            return [n, await flows.waits.options(run_id=f"child{n}")("go")]

        async with self.engine() as engine:
            client = await engine.open(parent, flows.waits, resident_runs=1, evict_after=0.0, lease_ttl=1.5)
            runs = [await client.start(parent, n, run_id=f"r{n}") for n in range(6)]
            await a_while(0.7)
            for n in range(6):
                await (await client.get(f"child{n}")).signal("go", "end")
            for n, run in enumerate(runs):
                assert await outcome(run) == [n, []]
                await sound(run)

    async def test_child_ends_while_its_parents_worker_is_away(self) -> None:
        @aob.workflow
        async def parent() -> Any:
            return await flows.waits.options(run_id="child")("go")

        async with self.engine() as engine:
            client = await engine.open(parent, flows.waits)
            await client.start(parent, run_id="r")
            await eventually(lambda: _exists(client, "child"), "the child")
            await a_while()
            await engine.crash()
            client = await engine.open(flows.waits)
            await (await client.get("child")).signal("go", "end")
            assert await outcome(await client.get("child")) == []
            client = await engine.restart(parent, flows.waits)
            assert await outcome(await client.get("r")) == []

    async def test_child_with_an_id_that_is_taken_fails_its_step(self) -> None:
        @aob.workflow
        async def parent(trace: str, detached: bool) -> str:
            try:
                await flows.gated.options(run_id="taken", detached=detached)(trace)
            except aob.RunExists as e:
                return e.code
            return "started"

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(parent, flows.waits, flows.gated)
            await client.start(flows.waits, "go", run_id="taken")
            for detached in (False, True):
                run = await client.start(parent, trace.path, detached)
                assert await outcome(run) == "run_exists"
            assert await (await client.get("taken")).status() == "waiting"

    async def test_child_with_a_bad_id_fails_its_step(self) -> None:
        async with self.serving(named, flows.gated) as client:
            error = await failure(await client.start(named, "no spaces", False, "unused"))
            assert isinstance(error.__cause__, aob.BadRunId)

    async def test_child_that_is_detached_is_a_handle_and_goes_on(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(named, flows.gated)
            run = await client.start(named, "child", True, trace.path, run_id="r")
            assert await outcome(run) == "child"
            await trace.until(2)
            client = await engine.restart()
            assert await outcome(await client.get("r")) == "child"
            flows.open_gate(trace.path, "gate")
            child = await client.get("child")
            assert await outcome(child) == ["before", "gate", "after"]
            assert (await child.history())[0].data["parent"] is None
            await sound(await client.get("r"))

    async def test_children_by_the_hundred_are_gathered(self) -> None:
        @aob.workflow
        async def parent(count: int) -> int:
            return sum(await asyncio.gather(*(_await(flows.twice(n)) for n in range(count))))

        async with self.engine() as engine:
            client = await engine.open(parent, flows.twice, resident_runs=20)
            run = await client.start(parent, 200, run_id="r")
            assert await outcome(run) == sum(n + 2 for n in range(200))
            assert len(await of_kind(run, "step_completed")) == 200
            await sound(run)

    async def test_child_may_be_signalled_cancelled_and_asked_like_any_run(self) -> None:
        @aob.workflow
        async def parent() -> list[Any]:
            child = asyncio.create_task(_await(flows.waits.options(run_id="child")("go")))
            await aob.wait_signal("begun")
            await aob.signal_run("child", "go", 1)
            await aob.signal_run("child", "go", "end")
            return await child

        async with self.serving(parent, flows.waits) as client:
            run = await client.start(parent)
            await eventually(lambda: _exists(client, "child"), "the child")
            await run.signal("begun")
            assert await outcome(run) == [1]


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _exists(client: Any, run_id: str) -> bool:
    return any(r.run_id == run_id for r in await client.list())
