"""Runs whose code nobody serves: they are pending and say why, keep what is sent to them, and go on by themselves."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import aob
from aob.client.client import Client
from aob.client.run import Run
from aob.errors import NotFinished, NoWorker, RunCancelled, RunExists, RunFinished, RunTerminated
from aob.testing.conformance.engine_b_setting import PATIENCE, BesideSetting, failure, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, refused

Later = aob.Workflow[..., Any]
WHY = "no worker serves later; served: "


@aob.activity
async def double(number: int) -> int:
    return 2 * number


@aob.workflow
async def served_meanwhile(number: int) -> int:
    return await double(number)


def later_code() -> Later:
    """A workflow that no worker serves that is not given it."""

    @aob.workflow(name="later", timeout=3_600)
    async def later(count: int) -> list[Any]:
        got = [await aob.wait_signal("go") for _ in range(count)]

        @aob.query
        def received() -> list[Any]:
            return got

        return [*got, await double(count)]

    return later


async def pending(client: Client, run: Run[Any]) -> Run[Any]:
    """The run, once it says why it does not begin."""

    async def says() -> bool:
        summary = await run.summary()
        return summary.status == "pending" and (summary.reason or "").startswith(WHY)

    await eventually(says, f"{run.run_id} pending for want of code")
    (listed,) = [r for r in await client.list(status="pending") if r.run_id == run.run_id]
    assert "served_meanwhile" in (listed.reason or "")
    assert await run.history() == []
    return run


async def no_code(call: Awaitable[object]) -> None:
    """See that a call is refused for want of code."""
    assert "no worker serves" in await refused(call, NoWorker)


class UnservedTests(BesideSetting):
    """Runs without code."""

    async def test_a_run_whose_code_nobody_serves_is_pending_until_somebody_does(self) -> None:
        async with self.beside(served_meanwhile) as (engine, here, other):
            assert await (await here.start(served_meanwhile, 2)).result(PATIENCE) == 4
            for n, client in enumerate((here, other)):
                begun: Run[Any] = await client.start("later", 3, run_id=f"r{n}", signal=("go", "with the start", "s"))
                run = await pending(client, begun)
                await run.signal("go", "first", id="1")
                await (await other.get(run.run_id)).signal("go", "first", id="1")
                await (await here.get(run.run_id)).signal("go", "second")
                for each in (here, other):
                    handle = await each.get(run.run_id)
                    await no_code(handle.query("received"))
                    await no_code(handle.update("set", 1))
                    await no_code(handle.pause())
                    await refused(each.delete(run.run_id), NotFinished)
            restarted = await engine.restart(served_meanwhile)
            for n in range(2):
                await pending(restarted, await restarted.get(f"r{n}"))
            last = await engine.restart(served_meanwhile, later_code())
            for n in range(2):
                run = await last.get(f"r{n}")
                assert await run.result(PATIENCE) == ["with the start", "first", "second", 6]
                started = (await sound(run))[0]
                assert started.kind == "run_started" and started.data["deadline"] is not None, "its definition counts"
                assert (await run.summary()).reason is None

    async def test_a_run_without_code_can_be_ended(self) -> None:
        async with self.beside(served_meanwhile) as (engine, here, other):
            for client in (here, other):
                for how, error in (("cancel", RunCancelled), ("terminate", RunTerminated)):
                    run = await pending(client, await client.start("later", 1))
                    await run.signal("go", "too early")
                    await getattr(run, how)("nobody needs it")
                    assert "nobody needs it" in str(await failure(run, error))
                    events = [e.kind for e in await sound(run)]
                    middle = ["cancel_requested"] if how == "cancel" else []
                    assert events == ["run_started", *middle, "run_cancelled" if middle else "run_terminated"]
                    await refused(run.signal("go"), RunFinished)
                    await client.delete(run.run_id)
            again = await engine.restart(served_meanwhile, later_code())
            assert list(await again.list(status=("pending", "running", "waiting"))) == []

    async def test_the_same_start_means_the_same_run_though_its_code_is_not_served(self) -> None:
        async with self.beside(served_meanwhile) as (engine, here, other):
            for n, client in enumerate((here, other)):
                for inputs, names in (([1, 2], "ab"), ([2, 1], "ba")):
                    await client.start_many("later", inputs, run_ids=[f"{n}{name}" for name in names])
                assert len(await client.list(workflow="later")) == 2 * (n + 1)
                await pending(client, await client.start("later", 1, run_id=f"{n}a", signal=("go", "once", "s")))
                await client.start("later", 1, run_id=f"{n}a", signal=("go", "once", "s"))
                other_input: Awaitable[Run[Any]] = client.start("later", 7, run_id=f"{n}a")
                await refused(other_input, RunExists)
                await refused(client.start(served_meanwhile, 1, run_id=f"{n}a"), RunExists)
            last = await engine.restart(served_meanwhile, later_code())
            for n in range(2):
                run = await last.get(f"{n}a")
                assert await run.result(PATIENCE) == ["once", 2]
                assert len(await of_kind(run, "signal_received")) == 1

    async def test_code_that_a_parent_brings_begins_the_runs_that_waited_for_it(self) -> None:
        later = later_code()

        @aob.workflow
        async def parent() -> list[Any]:
            return await later(0)

        async with self.beside(served_meanwhile, parent) as (_, here, other):
            run = await pending(other, await other.start("later", 1, run_id="r"))
            await run.signal("go", "on")
            assert await (await here.start(parent)).result(PATIENCE) == [0]
            assert await run.result(PATIENCE) == ["on", 2]

    async def test_a_run_that_has_begun_says_why_it_does_not_go_on(self) -> None:
        async with self.beside(served_meanwhile, later_code()) as (engine, here, _):
            await (await here.start("later", 1, run_id="r")).signal("other")
            without = await engine.restart(served_meanwhile)
            run = await without.get("r")
            await run.signal("go", "on")

            async def says() -> bool:
                return ((await run.summary()).reason or "").startswith(WHY)

            await eventually(says, "the reason why it does not go on")
            await no_code(run.query("received"))
            last = await engine.restart(served_meanwhile, later_code())
            run = await last.get("r")
            assert await run.result(PATIENCE) == ["on", 2]
            assert (await run.summary()).reason is None
