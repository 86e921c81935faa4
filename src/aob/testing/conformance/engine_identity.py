"""Items 1 and 5: which start is which run, and what an input is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aob.client.client import Client
from aob.client.run import Run
from aob.errors import AobError, BadRunId, RunExists, RunNotFound
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_harness import EngineSetting, eventually, export, outcome, refused


async def recorded_input(client: Client, run_id: str) -> object:
    """The input in a run's first event."""
    await eventually(lambda: _has_begun(client, run_id), f"run {run_id} to begin")
    return (await (await client.get(run_id)).history())[0].data["input"]


async def _is_gone(client: Client, run_id: str) -> bool:
    return run_id not in {s.run_id for s in await client.list()}


async def _has_begun(client: Client, run_id: str) -> bool:
    return bool(await (await client.get(run_id)).history())


class IdentityTests(EngineSetting):
    """Items 1 and 5."""

    async def test_01_an_equal_start_is_the_run_that_exists_be_it_finished_or_not(self) -> None:
        async with self.serving(flows.waits) as client:
            run = await client.start(flows.waits, "go", run_id="r")
            again = await client.start(flows.waits, "go", run_id="r")
            await again.signal("go", 1)
            await run.signal("go", "end")
            assert await outcome(run) == await outcome(again) == [1]
            finished = await client.start(flows.waits, "go", run_id="r")
            assert await outcome(finished) == [1]
            assert len(await client.list()) == 1
            assert [e.kind for e in await finished.history()].count("run_started") == 1

    async def test_01_another_input_or_workflow_is_refused_before_start_returns(self) -> None:
        async with self.serving(flows.twice, flows.total) as client:
            run = await client.start(flows.twice, 1, run_id="r")
            for finished in (False, True):
                if finished:
                    await outcome(run)
                assert "r" in await refused(client.start(flows.twice, 2, run_id="r"), RunExists)
                await refused(client.start(flows.total, 1, run_id="r"), RunExists)
            assert await outcome(run) == 3
            assert len(await client.list()) == 1

    async def test_01_of_starts_at_once_one_makes_the_run(self) -> None:
        async with self.serving(flows.twice) as client:
            runs = await asyncio.gather(*(client.start(flows.twice, 1, run_id="r") for _ in range(50)))
            assert [await outcome(r) for r in runs] == [3] * 50
            assert [e.kind for e in await runs[0].history()].count("run_started") == 1

    async def test_01_of_different_starts_at_once_one_wins_and_the_others_are_refused(self) -> None:
        async with self.serving(flows.twice) as client:
            starts = [client.start(flows.twice, n, run_id="r") for n in range(20)]
            got = await asyncio.gather(*starts, return_exceptions=True)
            won = [(n, run) for n, run in enumerate(got) if not isinstance(run, BaseException)]
            assert len(won) == 1
            assert all(isinstance(e, RunExists) for e in got if isinstance(e, BaseException))
            assert await outcome(won[0][1]) == won[0][0] + 2

    async def test_01_ids_are_a_tenants_own(self) -> None:
        async with self.serving(flows.twice) as client:
            one = await client.start(flows.twice, 1, run_id="r", tenant="one")
            two = await client.start(flows.twice, 2, run_id="r", tenant="two")
            assert (await outcome(one), await outcome(two)) == (3, 4)
            await refused(client.get("r"), RunNotFound)
            assert [s.tenant for s in await client.list(tenant="one")] == ["one"]

    async def test_01_a_deleted_runs_id_is_free(self) -> None:
        async with self.serving(flows.twice) as client:
            await outcome(await client.start(flows.twice, 1, run_id="r"))
            await client.delete("r")
            await refused(client.get("r"), RunNotFound)
            assert await outcome(await client.start(flows.twice, 5, run_id="r")) == 7

    async def test_01_after_its_retention_a_runs_id_is_free(self) -> None:
        async with self.serving(flows.twice, flows.waits, retention_days=1e-6, sweep_every=0.05) as client:
            run = await client.start(flows.waits, run_id="open")
            await client.start(flows.twice, 1, run_id="r")
            await eventually(lambda: _is_gone(client, "r"), "the run to be deleted")
            await client.start(flows.twice, 5, run_id="r")
            await run.signal("go", "end")
            assert await outcome(run) == []

    async def test_01_an_open_run_is_not_deleted(self) -> None:
        async with self.serving(flows.waits) as client:
            run = await client.start(flows.waits, run_id="r")
            await refused(client.delete("r"), AobError)
            await run.signal("go", "end")
            assert await outcome(run) == []

    async def test_01_a_fork_is_a_run_with_its_own_id(self) -> None:
        async with self.serving(flows.twice) as client:
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            fork = await run.fork(at="plus#2", run_id="f")
            assert await outcome(fork) == 3
            assert {s.run_id for s in await client.list()} == {"r", "f"}
            assert "f" in await refused(run.fork(at="plus#2", run_id="f"), RunExists)

    async def test_01_an_id_is_1_to_200_of_the_allowed_characters(self) -> None:
        async with self.serving(flows.nothing) as client:
            for bad in ("", "a b", "a~b", "a/b", "a#1", "ä", "x" * 201, "a\n"):
                await refused(client.start(flows.nothing, run_id=bad), BadRunId)
            for good in ("x" * 200, "aZ09._-:@+="):
                assert await outcome(await client.start(flows.nothing, run_id=good)) == "nothing"

    async def test_01_after_a_restart_an_equal_start_is_the_same_run(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.waits)
            run = await client.start(flows.waits, run_id="r")
            await run.signal("go", 1)
            client = await engine.restart()
            run = await client.start(flows.waits, run_id="r")
            await refused(client.start(flows.waits, "other", run_id="r"), RunExists)
            await run.signal("go", "end")
            assert await outcome(run) == [1]

    async def test_01_a_waiting_start_of_a_client_without_worker_holds_its_id(self) -> None:
        async with self.engine() as engine:
            client = await engine.open()
            await client.start(flows.twice, 1, run_id="r")
            await client.start(flows.twice, 1, run_id="r")
            await refused(client.start(flows.twice, 2, run_id="r"), RunExists)
            await engine.serve(client, flows.twice)
            await refused(client.start(flows.twice, 2, run_id="r"), RunExists)
            assert await outcome(await client.start(flows.twice, 1, run_id="r")) == 3

    async def test_01_two_processes_that_start_at_once_get_one_run(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.twice)
            engine.needs("processes")
            others = [await engine.process() for _ in range(2)]
            for n in range(10):
                mine = client.start(flows.twice, 0, run_id=f"r{n}")
                theirs = [o.start(flows.twice, 1 + i, run_id=f"r{n}") for i, o in enumerate(others)]
                got = await asyncio.gather(mine, *theirs, return_exceptions=True)
                won = [i for i, g in enumerate(got) if not isinstance(g, BaseException)]
                assert len(won) == 1, got
                assert await outcome(await client.get(f"r{n}")) == won[0] + 2

    async def test_05_the_only_parameters_value_is_the_input_else_an_object_by_name(self) -> None:
        async with self.serving(flows.twice, flows.total, flows.nothing, flows.shop) as client:
            await client.start(flows.twice, 7, run_id="one")
            await client.start(flows.twice, number=7, run_id="named")
            await client.start(flows.total, 1, 5, third=6, run_id="several")
            await client.start(flows.total, first=1, second=5, third=6, run_id="all-named")
            await client.start(flows.shop, flows.Order("ada", ["tea"]), run_id="model")
            assert await recorded_input(client, "one") == await recorded_input(client, "named") == 7
            several = {"first": 1, "second": 5, "third": 6}
            assert await recorded_input(client, "several") == await recorded_input(client, "all-named") == several
            assert await recorded_input(client, "model") == {"customer": "ada", "items": ["tea"]}
            assert await outcome(await client.get("all-named")) == 12

    async def test_05_defaults_are_not_filled_in(self) -> None:
        async with self.serving(flows.total, flows.waits) as client:
            run = await client.start(flows.total, 1, run_id="r")
            assert await recorded_input(client, "r") == {"first": 1}
            assert await outcome(run) == 6
            await refused(client.start(flows.total, 1, 2, run_id="r"), RunExists)
            assert await outcome(await client.start(flows.total, first=1, run_id="r")) == 6

    async def test_05_inputs_are_equal_when_their_bytes_are(self) -> None:
        async with self.serving(flows.total, flows.shop) as client:
            await client.start(flows.total, 1, 2, third=4, run_id="t")
            assert await outcome(await client.start(flows.total, third=4, second=2, first=1, run_id="t")) == 7
            await client.start(flows.shop, flows.Order("ada", ["tea", "milk"]), run_id="s")
            again = await client.start(flows.shop, flows.Order(items=["tea", "milk"], customer="ada"), run_id="s")
            assert await outcome(again) == 2
            await refused(client.start(flows.shop, flows.Order("ada", ["milk", "tea"]), run_id="s"), RunExists)

    async def test_05_a_start_by_name_means_the_same_run(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.total, flows.twice)
            await client.start(flows.total, 1, third=4, run_id="t")
            await client.start(flows.twice, 3, run_id="o")
            nameless = await engine.open()
            assert await outcome(await nameless.start("total", first=1, third=4, run_id="t")) == 7
            assert await outcome(await nameless.start("twice", 3, run_id="o")) == 5
            other: Awaitable[Run[Any]] = nameless.start("twice", 4, run_id="o")
            await refused(other, RunExists)

    async def test_05_every_process_makes_the_same_bytes_of_an_input(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.total)
            engine.needs("processes")
            await outcome(await client.start(flows.total, 1, third=4, run_id="t"))
            for seed in (0, 1):
                other = await engine.process(hash_seed=seed)
                assert await other.start(flows.total, third=4, first=1, run_id="t") == "t"
            assert len(await export(await client.get("t"))) == 2
