"""Builds of the code: a pinned run stays with the one that began it, others move on."""

from __future__ import annotations

from typing import Any

import aob
from aob.client.client import Client
from aob.client.run import Run
from aob.errors import NoWorker, RunTerminated
from aob.testing.conformance.engine_b_setting import PATIENCE, BesideSetting, a_while, failure, has, sound
from aob.testing.conformance.engine_harness import AnyWorkflow, EngineUnderTest, eventually, refused


@aob.activity
async def stamp(build: str) -> str:
    return build


@aob.activity
async def mended() -> None:
    if not MENDED:
        raise ValueError("not mended yet")


MENDED: list[bool] = []


def code_of(build: str) -> tuple[AnyWorkflow, ...]:
    """The workflows of a build: each says of which."""

    @aob.workflow(name="pinned", pinned=True)
    async def pinned() -> list[Any]:
        got = await aob.wait_signal("go")
        await stamp("any")
        return [got, build]

    @aob.workflow(name="three", pinned=True)
    async def three() -> list[Any]:
        return [*[await aob.wait_signal("go") for _ in range(3)], build]

    @aob.workflow(name="four", pinned=True)
    async def four() -> list[Any]:
        return [*[await aob.wait_signal("go") for _ in range(4)], build]

    @aob.workflow(name="free")
    async def free() -> list[Any]:
        got = await aob.wait_signal("go")
        return [got, await stamp(build)]

    @aob.workflow(name="above", pinned=True)
    async def above(child: str, detached: bool) -> Any:
        workflow: Any = {"pinned": pinned, "free": free}[child]
        found = await workflow.options(run_id=f"{child}-child", detached=detached)()
        return [build, found if not detached else None]

    @aob.workflow(name="below")
    async def below(child: str) -> Any:
        return [await aob.wait_signal("begin"), build, await pinned.options(run_id=child)()]

    @aob.workflow(name="fails", pinned=True)
    async def fails() -> str:
        await mended()
        return build

    @aob.workflow(name="calls_failing")
    async def calls_failing() -> str:
        return await fails.options(run_id="fails")()

    return pinned, three, four, free, above, below, fails, calls_failing


async def start(client: Client, name: str, *args: Any, run_id: str | None = None) -> Run[Any]:
    """Start a workflow and wait until it waits for a signal, or for a child that does."""
    run: Run[Any] = await client.start(name, *args, run_id=run_id or name)
    await waits(run)
    return run


async def waits(run: Run[Any]) -> None:
    """Wait until a run waits."""

    async def there() -> bool:
        return await run.status() == "waiting"

    await eventually(there, f"{run.run_id} to wait")


async def follow(engine: EngineUnderTest, build: str, graceful: bool = True) -> Client:
    """A worker of another build in the place of all that serve."""
    if graceful:
        await engine.close()
    else:
        await engine.crash()
    return await engine.open(*code_of(build), build=build)


class PinTests(BesideSetting):
    """Pinned runs."""

    async def test_a_pinned_run_stays_with_its_build_and_others_move_on(self) -> None:
        await self.stays_or_moves_on(graceful=True)

    async def test_a_pinned_run_stays_with_its_build_when_workers_die(self) -> None:
        await self.stays_or_moves_on(graceful=False)

    async def stays_or_moves_on(self, graceful: bool) -> None:
        """Builds follow each other."""
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            stays, moves = await start(one, "pinned"), await start(one, "free")
            assert ((await stays.summary()).build, (await moves.summary()).build) == ("b1", None)
            two = await follow(engine, "b2", graceful)
            await (await two.get("pinned")).signal("go", 1)
            assert await (await self.told(two, "free", 2)).result(PATIENCE) == [2, "b2"]
            new = await start(two, "pinned", run_id="new")
            assert (await new.summary()).build == "b2"
            await self.waits_for(two, "pinned", "b1")
            three = await follow(engine, "b1", graceful)
            assert await (await three.get("pinned")).result(PATIENCE) == [1, "b1"]
            assert (await (await three.get("pinned")).summary()).reason is None
            await sound(await three.get("pinned"))
            await (await three.get("new")).signal("go", 3)
            await self.waits_for(three, "new", "b2")
            last = await follow(engine, "b2", graceful)
            assert await (await last.get("new")).result(PATIENCE) == [3, "b2"]

    async def told(self, client: Client, run_id: str, value: Any) -> Run[Any]:
        """The run, after it was sent what it waits for."""
        run = await client.get(run_id)
        await run.signal("go", value)
        return run

    async def waits_for(self, client: Client, run_id: str, build: str) -> None:
        """See that a run that has all it needs does not go on, and says why."""
        run = await client.get(run_id)
        events = len(await run.history())
        await a_while()
        summary = await run.summary()
        assert summary.ended is None
        assert summary.build == build
        assert len(await run.history()) <= events + 1  # the signal, where somebody keeps it
        if client.store.partitions == 1:

            async def says() -> bool:
                return (await run.summary()).reason == self.why(client, build)

            await eventually(says, f"{run_id} to say why it waits")

    def why(self, client: Client, build: str) -> str:
        """Why a run of another build waits."""
        return f"it is pinned to build {build}, which no worker here runs; this is build {client.settings.build}"

    async def test_a_run_whose_build_is_retired_moves_on(self) -> None:
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            await start(one, "pinned")
            await start(one, "pinned", run_id="more")
            ended = await self.told(one, "more", 0)
            assert await ended.result(PATIENCE) == [0, "b1"]
            two = await follow(engine, "b2")
            run = await self.told(two, "pinned", 1)
            await self.waits_for(two, "pinned", "b1")
            await two.store.retire("b1")
            assert await run.result(PATIENCE) == [1, "b2"]
            assert (await run.summary()).reason is None
            await sound(run)
            fork = await (await two.get("more")).fork(run_id="fork", at="stamp#1")
            assert await fork.result(PATIENCE) == [0, "b2"]

    async def test_a_run_of_another_build_can_be_ended_and_answers_nothing(self) -> None:
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            await start(one, "pinned")
            two = await follow(engine, "b2")
            run = await two.get("pinned")
            if two.store.partitions == 1:
                assert "is pinned to build b1" in await refused(run.query("any"), NoWorker)
                assert "is pinned to build b1" in await refused(run.update("any"), NoWorker)
            await run.terminate("enough")
            await failure(run, RunTerminated)

    async def test_without_a_build_nothing_is_pinned(self) -> None:
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"))
            run = await start(one, "pinned")
            assert (await run.summary()).build is None
            two = await engine.restart(*code_of("b1"), graceful=True)
            run = await self.told(two, "pinned", 1)
            assert await run.result(PATIENCE) == [1, "b1"]

    async def test_a_run_sent_by_another_process_is_pinned_by_the_worker_that_begins_it(self) -> None:
        async with self.engine() as engine:
            other = await engine.open()
            one = await engine.open(*code_of("b1"), build="b1")
            for n in range(6):
                run: Run[Any] = await other.start("three", run_id=f"r{n}", signal=("go", n, "s"))
                await run.signal("go", "second")
                await (await one.get(f"r{n}")).signal("go", "third")
                assert await run.result(PATIENCE) == [n, "second", "third", "b1"]
                assert (await run.summary()).build == "b1"
                await sound(run)
            assert await one.store.waiting() == []

    async def test_what_was_sent_before_any_worker_came_reaches_a_pinned_run_in_order(self) -> None:
        async with self.engine() as engine:
            other = await engine.open()
            runs: list[Run[Any]] = []
            for n in range(6):
                run: Run[Any] = await other.start("four", run_id=f"r{n}", signal=("go", n, "s"))
                await run.signal("go", "second")
                await run.signal("go", "third")
                runs.append(run)
            await engine.open(*code_of("b1"), build="b1")
            for n, run in enumerate(runs):
                await has(run, "signal_received", 3)
                await waits(run)
                await run.signal("go", "last")
                assert await run.result(PATIENCE) == [n, "second", "third", "last", "b1"]
                await sound(run)

    async def test_children_and_forks_keep_to_their_own_setting(self) -> None:
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            above = await start(one, "above", "free", False)
            child = await one.get("free-child")
            assert ((await above.summary()).build, (await child.summary()).build) == ("b1", None)
            below: Run[Any] = await one.start("below", "pinned-child", run_id="below")
            await below.signal("begin", 0)
            await eventually(lambda: is_there(one, "pinned-child"), "the pinned child")
            pinned = await one.get("pinned-child")
            assert ((await below.summary()).build, (await pinned.summary()).build) == (None, "b1")
            fork = await above.fork(run_id="fork")
            assert (await fork.summary()).build == "b1"
            for each in ("free-child", "pinned-child"):
                await self.told(one, each, 7)
            assert await above.result(PATIENCE) == ["b1", [7, "b1"]]
            assert await below.result(PATIENCE) == [0, "b1", [7, "b1"]]
            for run in (above, below, child, pinned):
                await sound(run)

    async def test_the_retry_of_a_parent_goes_on_with_its_pinned_child(self) -> None:
        MENDED.clear()
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            run: Run[Any] = await one.start("calls_failing", run_id="calls")
            await failure(run)
            await run.retry()
            await failure(run)
            MENDED.append(True)
            await run.retry()
            assert await run.result(PATIENCE) == "b1"
            await sound(run)
            await sound(await one.get("fails"))

    async def test_a_detached_child_of_a_pinned_run_goes_its_own_way(self) -> None:
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            above: Run[Any] = await one.start("above", "free", True, run_id="above")
            assert await above.result(PATIENCE) == ["b1", None]
            await eventually(lambda: is_there(one, "free-child"), "the child")
            await waits(await one.get("free-child"))
            two = await follow(engine, "b2")
            assert await (await self.told(two, "free-child", 1)).result(PATIENCE) == [1, "b2"]

    async def test_the_end_of_a_child_reaches_a_parent_whose_build_comes_back(self) -> None:
        async with self.engine() as engine:
            one = await engine.open(*code_of("b1"), build="b1")
            below: Run[Any] = await one.start("below", "pinned-child", run_id="below")
            await below.signal("begin", 0)
            await eventually(lambda: is_there(one, "pinned-child"), "the pinned child")
            await waits(await one.get("pinned-child"))
            two = await follow(engine, "b1", graceful=False)
            await self.told(two, "pinned-child", 2)
            assert await (await two.get("below")).result(PATIENCE) == [0, "b1", [2, "b1"]]


async def is_there(client: Client, run_id: str) -> bool:
    """Whether a run has begun."""
    row = await client.store.get_run("default", run_id)
    return row is not None and row.status != "pending"
