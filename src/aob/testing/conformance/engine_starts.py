"""Items 2, 3 and 4: when a start counts, in which order things happen, and that a run ends once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aob.client.run import Run
from aob.errors import RunCancelled, RunExists, RunFailed, RunFinished, RunNotFound, RunTerminated
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_harness import EngineSetting, eventually, kinds, outcome, reaches, refused

TERMINAL = {"run_completed", "run_failed", "run_cancelled", "run_terminated", "run_timed_out"}


async def ends(run: Run[Any]) -> list[str]:
    """The kinds of events that ended a run."""
    return [k for k in await kinds(run) if k.split()[0] in TERMINAL]


class StartTests(EngineSetting):
    """Items 2, 3 and 4."""

    async def test_02_a_start_that_returned_survives_a_crash(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.twice)
            for n in range(20):
                await client.start(flows.twice, n, run_id=f"r{n}")
            client = await engine.restart()
            for n in range(20):
                run = await client.get(f"r{n}")
                assert await outcome(run) == n + 2
                assert (await run.history())[0].kind == "run_started"

    async def test_02_a_start_without_a_worker_waits_as_a_row_until_there_is_one(self) -> None:
        async with self.engine() as engine:
            client = await engine.open()
            run = await client.start(flows.twice, 1, run_id="r")
            assert await run.status() == "pending"
            assert await run.history() == []
            client = await engine.restart()
            run = await client.get("r")
            assert await run.status() == "pending"
            await engine.serve(client, flows.twice)
            assert await outcome(run) == 3

    async def test_02_a_start_that_finds_no_code_waits_for_a_worker_that_has_it(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.nothing)
            run: Run[Any] = await client.start("elsewhere", {"n": 1}, run_id="r")
            assert (await run.status(), await run.history()) == ("pending", [])
            again: Run[Any] = await client.start("elsewhere", {"n": 1}, run_id="r")
            assert again.run_id == run.run_id
            other: Awaitable[Run[Any]] = client.start("elsewhere", {"n": 2}, run_id="r")
            await refused(other, RunExists)

    async def test_02_many_starts_are_durable_when_they_return(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.twice)
            ids = [f"r{n}" for n in range(2_500)]
            runs = await client.start_many(flows.twice, list(range(2_500)), run_ids=ids)
            assert [r.run_id for r in runs] == ids
            client = await engine.restart()
            again = await client.start_many(flows.twice, list(range(2_500)), run_ids=ids)
            assert [await outcome(r) for r in again] == [n + 2 for n in range(2_500)]
            assert len((await client.list(limit=1_000)).runs) == 1_000
            assert await refused(client.get("r2500"), RunNotFound)

    async def test_02_a_conflict_refuses_its_commit_of_1000_whole_and_names_the_ids(self) -> None:
        async with self.engine() as engine:
            for worker in (True, False):
                client = await engine.open(*([flows.twice] if worker else []))
                name = "w" if worker else "n"
                await client.start(flows.twice, -1, run_id=f"{name}1500")
                ids = [f"{name}{n}" for n in range(2_500)]
                told = await refused(client.start_many(flows.twice, [5] * 2_500, run_ids=ids), RunExists)
                assert f"{name}1500" in told
                assert (await client.get(f"{name}0")).run_id == f"{name}0"
                assert (await client.get(f"{name}999")).run_id == f"{name}999"
                for n in (1_000, 1_499, 1_501, 1_999, 2_000):
                    await refused(client.get(f"{name}{n}"), RunNotFound)
                await engine.close()

    async def test_02_of_many_starts_those_that_exist_alike_are_taken_as_they_are(self) -> None:
        async with self.engine() as engine:
            for worker in (True, False):
                client = await engine.open(*([flows.twice] if worker else []))
                name = "w" if worker else "n"
                await client.start(flows.twice, 5, run_id=f"{name}3")
                ids = [f"{name}{n}" for n in range(10)]
                runs = await client.start_many(flows.twice, [5] * 10, run_ids=ids)
                if not worker:
                    await engine.serve(client, flows.twice)
                assert [await outcome(r) for r in runs] == [7] * 10
                await engine.close()

    async def test_02_one_id_twice_in_many_starts_is_refused(self) -> None:
        async with self.serving(flows.twice) as client:
            assert "a" in await refused(client.start_many(flows.twice, [1, 2], run_ids=["a", "a"]), RunExists)
            await refused(client.get("a"), RunNotFound)

    async def test_02_a_signal_given_with_a_start_comes_with_it(self) -> None:
        async with self.engine() as engine:
            for worker in (True, False):
                client = await engine.open(*([flows.waits] if worker else []))
                name = "w" if worker else "n"
                for _ in range(2):
                    await client.start(flows.waits, run_id=name, signal=("go", 1, "one"))
                client = await engine.restart(flows.waits)
                await client.start(flows.waits, run_id=name, signal=("go", 2, "two"))
                run = await client.get(name)
                await run.signal("go", "end")
                assert await outcome(run) == [1, 2]
                await engine.close()

    async def test_02_a_start_in_another_process_is_taken_up_by_the_worker(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(flows.twice)
            other = await engine.process()
            for n in range(5):
                assert await other.start(flows.twice, n, run_id=f"r{n}") == f"r{n}"
                assert await outcome(await client.get(f"r{n}")) == n + 2
                assert await other.run(f"r{n}", "result") == n + 2

    async def test_02_a_start_outlives_the_process_that_made_it(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            other = await engine.process()
            await other.serve(flows.waits)
            for n in range(10):
                await other.start(flows.waits, run_id=f"served{n}")
            await other.kill()
            lonely = await engine.process()
            await lonely.start(flows.waits, run_id="lonely")
            await lonely.kill()
            client = await engine.open(flows.waits)
            for name in ["lonely", *(f"served{n}" for n in range(10))]:
                run = await client.get(name)
                await run.signal("go", "end")
                assert await outcome(run) == []

    async def test_03_seq_is_dense_from_1(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.gated)
            trace = engine.trace()
            run = await client.start(flows.gated, trace.path)
            await trace.until(2)
            client = await engine.restart()
            flows.open_gate(trace.path, "gate")
            run = await client.get(run.run_id)
            await outcome(run)
            events = await run.history()
            assert [e.seq for e in events] == list(range(1, len(events) + 1))
            assert [e.at for e in events] == sorted(e.at for e in events)
            assert [e.seq async for e in run.events(after=2)] == [e.seq for e in events[2:]]

    async def test_03_a_senders_awaited_signals_arrive_in_order(self) -> None:
        async with self.engine() as engine:
            for worker in (True, False):
                client = await engine.open(*([flows.waits] if worker else []))
                run = await client.start(flows.waits, run_id="w" if worker else "n")
                for n in range(50):
                    await run.signal("go", n, id=f"id{n}" if n % 3 == 0 else None)
                await run.signal("go", "end")
                if not worker:
                    await engine.serve(client, flows.waits)
                assert await outcome(run) == list(range(50))
                await engine.close()

    async def test_03_calls_through_another_process_and_here_keep_their_order(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(flows.waits)
            other = await engine.process()
            run = await client.start(flows.waits, run_id="r")
            for n in range(0, 40, 2):
                await other.run("r", "signal", "go", n, **({"id": f"id{n}"} if n % 3 else {}))
                await run.signal("go", n + 1, id=f"id{n + 1}" if n % 4 else None)
            await run.signal("go", "end")
            assert await outcome(run) == list(range(40))

    async def test_03_a_signal_here_comes_after_the_start_made_in_another_process(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(flows.waits)
            other = await engine.process()
            for n in range(10):
                await other.start(flows.waits, run_id=f"r{n}")
                run = await client.get(f"r{n}")
                await run.signal("go", n)
                await run.signal("go", "end")
                assert await outcome(run) == [n]
                assert (await kinds(run))[0] == "run_started"

    async def test_03_a_cancel_here_comes_after_the_signals_sent_in_another_process(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(flows.waits)
            other = await engine.process()
            for n in range(10):
                run = await client.start(flows.waits, run_id=f"r{n}")
                await other.run(f"r{n}", "signal", "go", 1, id="one")
                await other.run(f"r{n}", "signal", "go", 2)
                await run.cancel()
                await refused(outcome(run), RunFailed)
                assert (await kinds(run))[:4] == [
                    "run_started", "signal_received", "signal_received", "cancel_requested",
                ]  # fmt: skip

    async def test_03_a_senders_signal_to_an_evicted_run_keeps_its_place(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(flows.waits, resident_runs=1, evict_after=0.0)
            other = await engine.process()
            runs = [await client.start(flows.waits, run_id=f"r{n}") for n in range(10)]
            for n in range(20):
                await asyncio.sleep(0.1 if n in (5, 10) else 0)
                for run in runs:
                    if n % 2:
                        await run.signal("go", n, id=f"id{n}")
                    else:
                        await other.run(run.run_id, "signal", "go", n, id=f"id{n}")
            for run in runs:
                await run.signal("go", "end")
                assert await outcome(run) == list(range(20))

    async def test_03_what_a_replaced_worker_asks_reaches_the_new_one(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open()
            for n in range(3):
                old = await engine.process(lease_ttl=0.5)
                await old.serve(flows.waits)
                await old.start(flows.waits, run_id=f"r{n}")
                old.freeze()
                new = await engine.process(lease_ttl=0.5)
                await new.serve(flows.waits)
                run = await client.get(f"r{n}")
                await run.signal("go", 1)
                await eventually(lambda run=run: _has_more(run, 1), "the new worker to take over")
                match n:
                    case 0:
                        asked = asyncio.ensure_future(old.run("r0", "signal", "go", 2))
                    case 1:
                        asked = asyncio.ensure_future(old.start(flows.waits, run_id="new"))
                    case _:
                        asked = asyncio.ensure_future(old.run("r2", "terminate", "enough"))
                await asyncio.sleep(0.05)
                old.thaw()
                await asked
                await old.kill()
                if n < 2:
                    await run.signal("go", "end")
                    assert await outcome(run) == ([1, 2] if n == 0 else [1])
                else:
                    assert isinstance(await self._failure(run), RunTerminated)
                await new.kill()
            assert (await client.get("new")).run_id == "new"

    async def test_03_what_is_asked_of_a_worker_that_was_just_replaced_reaches_the_new_one(self) -> None:
        async with self.engine() as engine:
            for n in range(6):
                old = await engine.open(flows.waits)
                run = await old.start(flows.waits, run_id=f"r{n}")
                await engine.usurp(flows.waits)
                match n:
                    case 0:
                        await run.signal("go", 2)
                    case 1:
                        assert (await old.start(flows.waits, run_id="new")).run_id == "new"
                    case 2:
                        await old.start_many(flows.waits, ["go"] * 3, run_ids=["a", "b", "c"])
                    case 3:
                        await run.cancel()
                    case 4:
                        await run.terminate()
                    case _:
                        await run.pause()
                        await run.resume()
                if n < 3 or n == 5:
                    await run.signal("go", "end")
                    assert await outcome(run) == ([2] if n == 0 else [])
                else:
                    assert isinstance(await self._failure(run), RunTerminated if n == 4 else RunCancelled)
                await engine.close()
            client = await engine.open(flows.waits)
            for name in ("new", "a", "b", "c"):
                run = await client.get(name)
                await run.signal("go", "end")
                assert await outcome(run) == []

    async def test_04_a_run_ends_once_whoever_asks_at_the_same_time(self) -> None:
        async with self.serving(flows.waits) as client:
            for n in range(20):
                run = await client.start(flows.waits, run_id=f"r{n}")
                asked = [run.signal("go", "end"), run.cancel(), run.terminate("now"), run.cancel(), run.terminate()]
                asked = asked[n % 5 :] + asked[: n % 5]
                await asyncio.gather(*asked, return_exceptions=True)
                await asyncio.gather(outcome(run), return_exceptions=True)
                assert len(await ends(run)) == 1
                assert (await kinds(run))[-1].split()[0] in TERMINAL

    async def test_04_nothing_but_late_facts_follow_the_end(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.stubborn)
            trace = engine.trace()
            run = await client.start(flows.stubborn, trace.path)
            await trace.until(1)
            await run.terminate("enough")
            assert isinstance(await self._failure(run), RunTerminated)
            flows.open_gate(trace.path, "stubborn")
            await trace.until(2)
            await eventually(lambda: _has_more(run), "the late fact")
            await refused(run.signal("go", 1), RunFinished)
            await run.cancel()
            kinds_then = await kinds(run)
            assert kinds_then == ["run_started", "run_terminated", "late stubborn#1"]
            client = await engine.restart()
            run = await client.get(run.run_id)
            assert await run.status() == "terminated"
            assert isinstance(await self._failure(run), RunTerminated)
            assert await kinds(run) == kinds_then

    async def test_04_a_finished_run_stays_finished_after_restarts(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.twice)
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            before = await kinds(run)
            for graceful in (True, False):
                client = await engine.restart(graceful=graceful)
                run = await client.get("r")
                assert await outcome(run) == 3
            assert await kinds(run) == before

    async def test_04_only_retry_opens_a_run_again(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.breaks_once)
            trace = engine.trace()
            run = await client.start(flows.breaks_once, trace.path, run_id="r")
            await refused(outcome(run), RunFailed)
            await run.cancel()
            await refused(run.pause(), RunFinished)
            await refused(run.resume(), RunFinished)
            assert await run.status() == "failed"
            await run.retry()
            await reaches(run, "completed")
            assert await kinds(run) == [
                "run_started", "step_completed mark#1", "step_failed breaks#1", "run_failed breaks#1",
                "run_reopened", "step_completed breaks#1", "run_completed",
            ]  # fmt: skip
            assert await outcome(run) == "mended"
            await refused(run.retry(), RunFinished)

    async def _failure(self, run: Run[Any]) -> RunFailed:
        try:
            await outcome(run)
        except RunFailed as e:
            return e
        raise AssertionError("the run did not fail")


async def _has_more(run: Run[Any], than: int = 2) -> bool:
    return len(await run.history()) > than
