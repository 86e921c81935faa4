"""Item 19: queries read and write nothing; updates are checked, recorded, and answered once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aob
from aob.client.run import Run
from aob.errors import NoWorker, QueryNotFound, RunFinished, UpdateRefused
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_setting import PATIENCE, BesideSetting, a_while, has, of_kind, sound
from aob.testing.conformance.engine_harness import outcome, refused


class TooMany(ValueError):
    """A validator's own error."""


@dataclass
class Item:
    name: str
    count: int = 1


@aob.activity
async def price(name: str) -> int:
    return len(name)


@aob.workflow
async def basket() -> list[str]:
    """Takes items until signal `pay`."""
    items: list[str] = []

    @aob.query
    def look(sep: str = ",") -> str:
        return sep.join(items)

    @aob.query
    def fail() -> None:
        raise TooMany("ask another time")

    @aob.update
    def add(item: Item) -> int:
        items.extend([item.name] * item.count)
        return len(items)

    @add.validator
    def _check(item: Item) -> None:
        if len(items) + item.count > 3:
            raise TooMany(f"{item.name} is too much")

    @aob.update
    async def add_priced(name: str) -> int:
        cost = await price(name)
        items.append(f"{name}={cost}")
        return cost

    @aob.update
    def broken(name: str) -> None:
        items.append(name)
        raise TooMany(name)

    await aob.wait_signal("pay")
    return items


class CallTests(BesideSetting):
    """Item 19."""

    # --- queries ----------------------------------------------------------------------------------

    async def test_19_a_query_reads_the_state_and_writes_nothing(self) -> None:
        async with self.beside(basket) as (_, client, other):
            run = await client.start(basket, run_id="r")
            await run.update("add", Item("tea", 2))
            before = await run.history()
            for handle in (run, await other.get("r")):
                assert await handle.query("look") == "tea,tea"
                assert await handle.query("look", sep="+") == "tea+tea"
            await a_while()
            assert await run.history() == before

    async def test_19_a_finished_run_answers_by_replay_and_another_process_asks_too(self) -> None:
        async with self.beside(basket) as (engine, client, other):
            run = await client.start(basket, run_id="r")
            await run.update("add", Item("tea"))
            await run.update("add_priced", "milk")
            await run.signal("pay")
            await outcome(run)
            before = await run.history()
            for handle in (run, await other.get("r")):
                assert await handle.query("look") == "tea,milk=4"
            client = await engine.restart(basket)
            run = await client.get("r")
            assert await run.query("look") == "tea,milk=4"
            assert await run.history() == before

    async def test_19_an_evicted_run_answers(self) -> None:
        async with self.beside(basket, resident_runs=1, evict_after=0.0) as (_, client, other):
            runs = [await client.start(basket, run_id=f"r{n}") for n in range(10)]
            for n, run in enumerate(runs):
                await run.update("add", Item(f"tea{n}"))
            await a_while()
            for n in range(10):
                assert await (await other.get(f"r{n}")).query("look") == f"tea{n}"

    async def test_19_queries_that_are_not_there_and_queries_that_raise(self) -> None:
        async with self.beside(basket) as (_, client, other):
            run = await client.start(basket, run_id="r")
            for handle in (run, await other.get("r")):
                assert "look" in await refused(handle.query("price"), QueryNotFound)
                assert "another time" in await refused(handle.query("fail"), TooMany)
            assert await run.query("look") == ""
            assert len(await run.history()) == 1

    async def test_19_where_nobody_serves_the_code_there_is_no_worker(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(basket)
            await client.start(basket, run_id="open")
            done = await client.start(basket, run_id="done", signal=("pay", None))
            await outcome(done)
            client = await engine.restart(flows.waits)
            for run_id in ("open", "done"):
                await refused((await client.get(run_id)).query("look"), NoWorker)
            await refused((await client.get("open")).update("add", Item("tea")), NoWorker)

    async def test_19_a_query_has_no_effects(self) -> None:
        @aob.workflow
        async def curious() -> list[float]:
            drawn = [aob.random().random()]

            @aob.query
            def effect(which: str) -> Any:
                return {
                    "emit": lambda: aob.emit("x"), "random": lambda: aob.random().random(),
                    "uuid": lambda: str(aob.uuid4()), "changed": lambda: aob.changed("x"),
                    "checkpoint": lambda: aob.checkpoint(1), "task": lambda: str(asyncio.create_task(price("x"))),
                }[which]()  # fmt: skip

            await aob.wait_signal("go")
            return [*drawn, aob.random().random()]

        async with self.engine() as engine:
            client = await engine.open(curious)
            run = await client.start(curious, run_id="r")
            for which in ("emit", "random", "uuid", "changed", "checkpoint", "task"):
                await refused(run.query("effect", which), aob.AobError)
            assert len(await run.history()) == 1
            await run.signal("go")
            live = await outcome(run)
            client = await engine.restart()
            run = await client.get("r")
            await refused(run.query("effect", "emit"), aob.AobError)
            assert await outcome(run) == live

    async def test_19_a_query_while_a_step_runs_sees_the_state_so_far(self) -> None:
        async with self.beside(steps_on) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(steps_on, trace.path, run_id="r")
            await trace.until(2)
            for handle in (run, await other.get("r")):
                assert await handle.query("done_names") == ["one"]
            flows.open_gate(trace.path, "two")
            await run.signal("go")
            await outcome(run)

    # --- updates ----------------------------------------------------------------------------------

    async def test_19_an_update_changes_the_state_and_its_answer_is_recorded(self) -> None:
        async with self.beside(basket) as (engine, client, other):
            run = await client.start(basket, run_id="r")
            assert await run.update("add", Item("tea")) == 1
            assert await (await other.get("r")).update("add", item=Item("milk")) == 2
            answers = [e.data["result"] for e in await of_kind(run, "update_completed")]
            assert answers == [1, 2]
            assert len(await of_kind(run, "signal_received")) == 2
            client = await engine.restart(basket)
            run = await client.get("r")
            assert await run.query("look") == "tea,milk"
            await run.signal("pay")
            assert await outcome(run) == ["tea", "milk"]
            await sound(run)

    async def _cause(self, handle: Run[Any]) -> None:
        """Raise what stands behind a validator's error."""
        try:
            await handle.update("add", Item("tea", 4))
        except TooMany as e:
            assert e.__cause__ is not None
            raise e.__cause__ from None

    async def test_19_an_update_that_is_refused_is_not_recorded(self) -> None:
        async with self.beside(basket) as (_, client, other):
            run = await client.start(basket, run_id="r")
            for handle in (run, await other.get("r")):
                assert "too much" in await refused(handle.update("add", Item("tea", 4)), TooMany)
                assert "TooMany: tea is too much" in await refused(self._cause(handle), UpdateRefused)
                assert "add_priced" in await refused(handle.update("look"), QueryNotFound)
                await refused(handle.update("add", {"name": "tea", "count": "many"}), aob.AobError)
            assert len(await run.history()) == 1
            assert await run.query("look") == ""

    async def test_19_an_update_may_await_steps(self) -> None:
        async with self.beside(basket) as (_, client, other):
            run = await client.start(basket, run_id="r")
            got = await asyncio.gather(
                run.update("add_priced", "tea"), (await other.get("r")).update("add_priced", "milk")
            )
            assert got == [3, 4]
            await run.signal("pay")
            assert sorted(await outcome(run)) == ["milk=4", "tea=3"]

    async def test_19_an_update_that_fails_raises_for_its_caller_alone(self) -> None:
        async with self.beside(basket) as (engine, client, other):
            run = await client.start(basket, run_id="r")
            for handle in (run, await other.get("r")):
                assert await refused(handle.update("broken", "egg", id="egg"), TooMany) == "egg"
            client = await engine.restart(basket)
            run = await client.get("r")
            assert await refused(run.update("broken", "egg", id="egg"), TooMany) == "egg"
            assert await run.query("look") == "egg"
            assert "TooMany" in str((await of_kind(run, "update_completed"))[0].data["failure"])

    async def test_19_a_repeated_id_counts_once_and_gets_the_same_answer(self) -> None:
        async with self.beside(basket) as (engine, client, other):
            run = await client.start(basket, run_id="r")
            there = await other.get("r")
            calls = [h.update("add", Item("tea"), id="one") for h in (run, there, run, there)]
            assert await asyncio.gather(*calls) == [1, 1, 1, 1]
            assert await run.update("add", Item("milk"), id="two") == 2
            other = await engine.restart(basket)
            client = await engine.open()
            for handle in (await client.get("r"), await other.get("r")):
                assert await handle.update("add", Item("tea"), id="one") == 1
                assert await handle.update("add", Item("milk"), id="two") == 2
            await (await client.get("r")).signal("pay")
            assert await outcome(await client.get("r")) == ["tea", "milk"]

    async def test_19_an_update_under_way_survives_a_crash(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(steps_on)
            run = await client.start(steps_on, trace.path, run_id="r")
            flows.open_gate(trace.path, "two")
            asking = asyncio.create_task(run.update("through", "three", id="u"))
            await has(run, "signal_received")
            await trace.until(4)
            await engine.crash()
            assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], aob.AobError)
            client = await engine.open(steps_on)
            flows.open_gate(trace.path, "three")
            run = await client.get("r")
            assert await run.update("through", "three", id="u") == "three"
            assert len(await of_kind(run, "signal_received")) == 1
            await run.signal("go")
            await outcome(run)
            await sound(run)

    async def test_19_an_update_may_wait_for_what_the_same_process_sends_next(self) -> None:
        @aob.workflow
        async def meets() -> None:
            @aob.update
            async def meet() -> Any:
                return await aob.wait_signal("other")

            await aob.wait_signal("go")

        async with self.beside(meets) as (_, client, other):
            await client.start(meets, run_id="r")
            there = await other.get("r")
            meeting = asyncio.create_task(there.update("meet"))
            await has(there, "signal_received")
            assert await asyncio.gather(meeting, there.signal("other", 5)) == [5, None]
            again = asyncio.create_task(there.update("meet"))
            await there.signal("other", 6)
            assert await again == 6

    async def test_19_a_run_that_has_ended_or_ends_first_refuses(self) -> None:
        @aob.workflow
        async def leaves() -> None:
            @aob.update
            async def never() -> None:
                await aob.wait_signal("never")

            await aob.wait_signal("go")

        async with self.beside(leaves) as (_, client, other):
            run = await client.start(leaves, run_id="r")
            there = await other.get("r")
            waiting = [asyncio.create_task(h.update("never", id=id)) for h, id in ((run, "one"), (there, "two"))]
            await has(run, "signal_received", 2)
            await run.signal("go")
            got = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
            assert [type(e) for e in got] == [RunFinished, RunFinished]
            await outcome(run)
            for handle in (run, there):
                for id in (None, "one", "two"):
                    await asyncio.wait_for(refused(handle.update("never", id=id), RunFinished), PATIENCE)

    async def test_19_an_update_in_the_turn_in_which_the_run_ends_is_answered(self) -> None:
        @aob.workflow
        async def last() -> list[int]:
            got: list[int] = []

            @aob.update
            def put(n: int) -> int:
                got.append(n)
                return n * 2

            await aob.wait_until(lambda: bool(got))
            return got

        async with self.beside(last) as (_, client, other):
            for n, from_here in enumerate((True, False)):
                run = await client.start(last, run_id=f"r{n}")
                handle = run if from_here else await other.get(f"r{n}")
                assert await handle.update("put", 4, id="u") == 8
                assert await outcome(run) == [4]
                assert await handle.update("put", 4, id="u") == 8

    async def test_19_another_process_queries_and_updates(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(basket)
            run = await client.start(basket, run_id="r")
            process = await engine.process()
            assert await process.run("r", "update", "add", {"name": "tea"}, id="one") == 1
            assert await process.run("r", "update", "add", {"name": "tea"}, id="one") == 1
            assert await process.run("r", "query", "look") == "tea"
            assert await run.query("look") == "tea"

    async def test_19_an_update_waits_while_its_run_leaves_memory(self) -> None:
        @aob.workflow
        async def slow() -> str:
            @aob.update
            async def later() -> str:
                await aob.sleep(1.5)
                return "late"

            await aob.wait_signal("go")
            return "gone"

        async with self.beside(slow, resident_runs=1, evict_after=0.0, lease_ttl=1.5) as (_, client, other):
            run = await client.start(slow, run_id="r")
            asking = [asyncio.create_task(h.update("later")) for h in (run, await other.get("r"))]
            await has(run, "signal_received", 2)
            for n in range(5):
                await client.start(slow, run_id=f"other{n}")
            assert await asyncio.wait_for(asyncio.gather(*asking), PATIENCE) == ["late", "late"]


@aob.workflow
async def steps_on(trace: str) -> list[str]:
    """Two steps, the second at a gate, then a signal."""
    done: list[str] = []

    @aob.query
    def done_names() -> list[str]:
        return done

    @aob.update
    async def through(name: str) -> str:
        return await flows.gate(trace, name)

    done.append(await flows.mark(trace, "one"))
    done.append(await flows.gate(trace, "two"))
    await aob.wait_signal("go", timeout=60)
    return done
