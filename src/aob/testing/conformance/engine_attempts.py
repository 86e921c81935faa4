"""Items 13 and 14: attempts, whose results count, what a worker's death means; and idempotency keys."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aob.client.client import Client
from aob.client.run import Run
from aob.errors import RunFailed
from aob.testing.conformance import engine_flows as flows, engine_tries as tries
from aob.testing.conformance.engine_harness import (
    EngineSetting,
    EngineUnderTest,
    OtherProcess,
    eventually,
    kinds,
    outcome,
    reaches,
    refused,
)


async def completed(run: Run[Any]) -> Counter[str]:
    """How often each step's result is in the history."""
    return Counter(e.step or "" for e in await run.history() if e.kind in ("step_completed", "step_failed"))


async def served(engine: EngineUnderTest, **settings: Any) -> OtherProcess:
    """Another process that serves what dies."""
    other = await engine.process(**settings)
    await other.serve(tries.dies)
    return other


class AttemptTests(EngineSetting):
    """Item 13."""

    async def test_13_an_attempt_that_was_lost_with_its_worker_is_made_again_without_a_policy(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.gated)
            trace = engine.trace()
            run = await client.start(flows.gated, trace.path, run_id="r")
            for made in (1, 2):
                await eventually(lambda made=made: trace.lines().count("gate") == made, "an attempt")
                client = await engine.restart()
            flows.open_gate(trace.path, "gate")
            run = await client.get("r")
            assert await outcome(run) == ["before", "gate", "after"]
            assert await completed(run) == {"mark#1": 1, "gate#1": 1, "mark#2": 1}
            assert (trace.lines().count("before"), trace.lines().count("after")) == (1, 1)

    async def test_13_without_a_policy_an_error_is_final(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(tries.fails_for_good)
            trace = engine.trace()
            run = await client.start(tries.fails_for_good, trace.path, run_id="r")
            await refused(outcome(run), RunFailed)
            client = await engine.restart()
            run = await client.get("r")
            assert await run.status() == "failed"
            assert trace.lines() == ["tried"]
            assert await completed(run) == {"fails_at_once#1": 1}

    async def test_13_an_error_that_the_workflow_caught_is_not_tried_again_after_a_crash(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(tries.catches)
            trace = engine.trace()
            run = await client.start(tries.catches, trace.path, run_id="r")
            await eventually(lambda: _has_end_of(run, "fails_at_once#1"), "the failure")
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            assert await outcome(run) == "caught ValueError: tried"
            assert trace.lines() == ["tried"]

    async def test_13_each_result_is_recorded_once_whatever_crashes(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(tries.busy)
            trace = engine.trace()
            ids = [f"r{n}" for n in range(20)]
            for name in ids:
                await client.start(tries.busy, trace.path, name, 8, run_id=name)
            for lines in (15, 90):  # a third death without progress would park a run
                await trace.until(lines)
                client = await engine.restart()
            for name in ids:
                run = await client.get(name)
                assert await outcome(run) == [f"{name} {n}" for n in range(8)]
                assert set((await completed(run)).values()) == {1}
                assert len(await completed(run)) == 8
            done = Counter(trace.lines())
            assert set(done) == {f"{name} {n}" for name in ids for n in range(8)}

    async def test_13_each_result_is_recorded_once_when_processes_are_killed(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            trace = engine.trace()
            ids = [f"r{n}" for n in range(20)]
            for name in ids:
                await client.start(tries.busy, trace.path, name, 8, run_id=name)
            for lines in (15, 90):  # a third death without progress would park a run
                worker = await engine.process()
                await worker.serve(tries.busy)
                await trace.until(lines)
                await worker.kill()
            worker = await engine.process()
            await worker.serve(tries.busy)
            for name in ids:
                run = await client.get(name)
                assert await outcome(run) == [f"{name} {n}" for n in range(8)]
                assert set((await completed(run)).values()) == {1}
            assert set(trace.lines()) == {f"{name} {n}" for name in ids for n in range(8)}

    async def test_13_a_result_that_comes_too_late_is_noted_and_ignored(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(tries.leaves_it)
            trace = engine.trace()
            run = await client.start(tries.leaves_it, trace.path)
            await trace.until(1)
            await run.signal("leave")
            await eventually(lambda: _has_end_of(run, "mark#1"), "the run to go on")
            flows.open_gate(trace.path, "stubborn")
            await eventually(lambda: _noted(run), "the late result")
            await run.signal("end")
            assert await outcome(run) == ["left", "went on"]
            late = next(e for e in await run.history() if e.kind == "late")
            assert (late.step, late.data["result"]) == ("stubborn#1", "stubborn")
            assert "stubborn#1" not in await completed(run)

    async def test_13_a_worker_that_was_replaced_while_it_slept_records_nothing(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            trace = engine.trace()
            run = await client.start(flows.gated, trace.path, run_id="r")
            old = await engine.process(lease_ttl=0.5)
            await old.serve(flows.gated)
            await trace.until(2)
            old.freeze()
            new = await engine.process(lease_ttl=0.5)
            await new.serve(flows.gated)
            await trace.until(3)
            flows.open_gate(trace.path, "gate")
            assert await outcome(run) == ["before", "gate", "after"]
            before = await kinds(run)
            old.thaw()
            await asyncio.sleep(0.5)
            assert await kinds(run) == before
            assert await completed(run) == {"mark#1": 1, "gate#1": 1, "mark#2": 1}
            assert await old.run("r", "result") == ["before", "gate", "after"]

    async def test_13_a_run_whose_worker_dies_of_it_three_times_is_parked(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            trace = engine.trace()
            run = await client.start(tries.dies, trace.path, ["bad"], run_id="r")
            for made in (1, 2, 3):
                other = await served(engine)
                await trace.until(made)
                await other.ended()
            other = await served(engine)
            await reaches(run, "parked")
            assert ((await run.summary()).reason or "").startswith("poison")
            assert trace.lines() == ["bad"] * 3
            assert await other.run("r", "status") == "parked"
            flows.open_gate(trace.path, "bad")
            await run.resume()
            assert await outcome(run) == ["survived bad"]

    async def test_13_progress_forgives_deaths(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            trace = engine.trace()
            run = await client.start(tries.dies, trace.path, ["one", "two"], run_id="r")
            made = 0
            for name in ("one", "two"):
                for _ in range(2):
                    other = await served(engine)
                    made += 1
                    await trace.until(made)
                    await other.ended()
                flows.open_gate(trace.path, name)
                made += 1
            await served(engine)
            assert await outcome(run) == ["survived one", "survived two"]

    async def test_13_deaths_of_others_are_not_a_waiting_runs(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.waits)
            run = await client.start(flows.waits, run_id="r")
            await reaches(run, "waiting")
            await asyncio.sleep(0.2)
            for _ in range(4):
                client = await engine.restart()
            run = await client.get("r")
            assert await run.status() == "waiting"
            await run.signal("go", "end")
            assert await outcome(run) == []


class KeyTests(EngineSetting):
    """Item 14."""

    async def _keys(self, client: Client, **options: Any) -> list[str]:
        return await outcome(await client.start(tries.keys, 2, **options))

    async def test_14_the_key_names_tenant_run_birth_and_step(self) -> None:
        async with self.serving(tries.keys) as client:
            keys = await self._keys(client, run_id="r-1", tenant="acme")
            birth = (await (await client.get("r-1", tenant="acme")).history())[0].data["birth"]
            assert keys == [f"aob/acme/r-1/{birth}/key#1", f"aob/acme/r-1/{birth}/key#2"]
            assert len(birth) == 8

    async def test_14_it_is_the_same_on_every_attempt(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(tries.key_of_attempts)
            trace = engine.trace()
            run = await client.start(tries.key_of_attempts, trace.path, run_id="r")
            for made in (1, 2, 3):
                await trace.until(made)
                client = await engine.restart(graceful=made == 2)
            flows.open_gate(trace.path, "key")
            run = await client.get("r")
            key = await outcome(run)
            assert set(trace.lines()) == {key}
            assert len(trace.lines()) >= 4

    async def test_14_it_is_the_same_in_every_process_and_after_retry(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            trace = engine.trace()
            run = await client.start(tries.key_then_failure, trace.path, run_id="r")
            first = await engine.process(hash_seed=1)
            await first.serve(tries.key_then_failure)
            await refused(outcome(run), RunFailed)
            await first.kill()
            second = await engine.process(hash_seed=2)
            await second.serve(tries.key_then_failure)
            await run.retry()
            await trace.until(2)
            await refused(outcome(run), RunFailed)
            assert len(trace.lines()) == 2
            assert len(set(trace.lines())) == 1

    async def test_14_no_two_effects_share_it(self) -> None:
        async with self.serving(tries.keys, tries.key_of_child) as client:
            keys = await self._keys(client, run_id="r")
            keys += await self._keys(client, run_id="r", tenant="other")
            keys += await self._keys(client, run_id="r2")
            keys += await outcome(await client.start(tries.key_of_child, run_id="p"))
            await client.delete("r")
            keys += await self._keys(client, run_id="r")
            fork = await (await client.get("r")).fork(at="key#2", run_id="f")
            forked = await outcome(fork)
            assert forked[0] == keys[-2]
            assert forked[1] not in keys
            assert len(set(keys)) == len(keys) == 2 + 2 + 2 + 2 + 2

    async def test_14_a_long_key_has_a_hash_for_its_tail(self) -> None:
        async with self.serving(tries.keys) as client:
            long = "x" * 200
            keys = await self._keys(client, run_id=long)
            keys += await self._keys(client, run_id=long, tenant="t" * 50)
            keys += await self._keys(client, run_id="x" * 199 + "y")
            assert all(len(k) <= 200 and k.startswith("aob/") for k in keys)
            assert len(set(keys)) == 6

    async def test_14_effects_by_key_happen_once_whatever_crashes(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(tries.delivers, max_deaths=10)
            outbox = engine.trace("outbox")
            ids = [f"r{n}" for n in range(10)]
            for name in ids:
                await client.start(tries.delivers, outbox.path, 6, run_id=name)
            for lines in (10, 30, 50):
                await outbox.until(lines)
                client = await engine.restart()
            for name in ids:
                assert await outcome(await client.get(name)) == 6
            by_key = dict(line.split(" ", 1) for line in outbox.lines())
            assert Counter(by_key.values()) == Counter(f"{name} {n}" for name in ids for n in range(6))


async def _has_end_of(run: Run[Any], step: str) -> bool:
    return step in await completed(run)


async def _noted(run: Run[Any]) -> bool:
    return "late stubborn#1" in await kinds(run)
