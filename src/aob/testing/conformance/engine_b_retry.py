"""Item 25: a retry sets aside the failure and what came of it, and keeps everything before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aob
from aob.errors import NotFinished, RunFinished
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_fork import keyed
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, outcome, refused


@aob.activity
async def once_open(trace: str, name: str) -> str:
    """Fails until the gate of this name is open."""
    flows.leave(trace, name)
    if not Path(f"{trace}.{name}").exists():  # noqa: ASYNC240 (a test makes it)
        raise ConnectionError(f"{name} is closed")
    return name


@aob.workflow
async def buys(trace: str) -> list[str]:
    return [await note(trace, "first"), await once_open(trace, "second"), await note(trace, "third")]


@aob.workflow
async def mother(trace: str) -> list[str]:
    return [await note(trace, "mother"), *await buys.options(run_id="child")(trace)]


@aob.workflow
async def undoes(trace: str) -> str:
    async with aob.saga():
        aob.compensate(note, trace, "undo")
        return await once_open(trace, "gate")


class RetryTests(BesideSetting):
    """Item 25."""

    async def test_25_a_retry_goes_on_from_the_failed_step(self) -> None:
        async with self.beside(buys) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(buys, trace.path, run_id=f"r{n}")
                assert isinstance((await failure(run)).__cause__, ConnectionError)
                flows.open_gate(trace.path, "second")
                await (run if from_here else await other.get(f"r{n}")).retry()
                assert await outcome(await client.get(f"r{n}")) == ["first", "second", "third"]
                assert await outcome(run) == ["first", "second", "third"]
                assert trace.lines() == ["first", "second", "second", "third"]
                events = await sound(run)
                assert [e.kind for e in events] == [
                    "run_started", "step_completed", "step_failed", "run_failed", "run_reopened",
                    "step_completed", "step_completed", "run_completed",
                ]  # fmt: skip
                assert await run.status() == "completed"

    async def test_25_what_the_run_was_sent_after_the_failure_stands(self) -> None:
        @aob.workflow
        async def told(trace: str) -> list[Any]:
            total: list[int] = []

            @aob.update
            def add(n: int) -> int:
                total.append(n)
                return sum(total)

            try:
                await once_open(trace, "second")
            except ConnectionError:
                await note(trace, str(await aob.wait_signal("go")))
                await aob.wait_signal("end")
                raise
            return [await aob.wait_signal("go"), await aob.wait_signal("end"), *total]

        async with self.beside(told) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(told, trace.path, run_id="r")
            await has(run, "step_failed")
            assert await run.update("add", 5, id="u") == 5
            await run.signal("go", 7, id="go")
            await (await other.get("r")).signal("end", 8, id="end")
            await failure(run)
            flows.open_gate(trace.path, "second")
            await run.retry()
            assert await outcome(run) == [7, 8, 5]
            assert trace.lines() == ["second", "7", "second"]
            await engine.restart(told)
            run = await (await engine.open()).get("r")
            assert await run.update("add", 5, id="u") == 5
            await sound(run)

    async def test_25_a_fork_that_shares_the_failure_stays_a_fork_when_it_is_retried(self) -> None:
        @aob.workflow
        async def fails(trace: str) -> str:
            await once_open(trace, "second")
            return await keyed(trace, "key")

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(fails)
            run = await client.start(fails, trace.path, run_id="r")
            await failure(run)
            fork = await run.fork(run_id="fork")
            await failure(fork)
            flows.open_gate(trace.path, "second")
            births: set[str] = set()
            for handle in (run, fork):
                await handle.retry()
                _, key = (await outcome(handle)).split()
                births.add(key.split("/")[3])
            assert len(births) == 2
            forked = next(e for e in await sound(fork) if e.data.get("fork"))
            assert forked.data["fork"]["birth"] in births

    async def test_25_a_retry_may_be_repeated_and_survives_crashes(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(buys)
            run = await client.start(buys, trace.path, run_id="r")
            for _ in range(3):
                await failure(run)
                client = await engine.restart()
                run = await client.get("r")
                await run.retry()
            await failure(run)
            flows.open_gate(trace.path, "second")
            await run.retry()
            assert await outcome(run) == ["first", "second", "third"]
            assert trace.lines() == ["first", *["second"] * 5, "third"]
            client = await engine.restart()
            run = await client.get("r")
            assert await outcome(run) == ["first", "second", "third"]
            await sound(run)

    async def test_25_retries_at_once_open_the_run_once(self) -> None:
        async with self.beside(buys) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(buys, trace.path, run_id="r")
            await failure(run)
            flows.open_gate(trace.path, "second")
            there = await other.get("r")
            got = await asyncio.gather(
                *(h.retry() for h in (run, there, await client.get("r"), there)), return_exceptions=True
            )
            assert all(e is None or isinstance(e, NotFinished | RunFinished) for e in got)
            assert None in got
            assert await outcome(await client.get("r")) == ["first", "second", "third"]
            assert [e.kind for e in await sound(run)].count("run_reopened") == 1

    async def test_25_a_retry_while_it_was_reopened_survives_a_crash(self) -> None:
        @aob.workflow
        async def slow(trace: str) -> str:
            return f"{await once_open(trace, 'second')} {await flows.gate(trace, 'gate')}"

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(slow)
            run = await client.start(slow, trace.path, run_id="r")
            await failure(run)
            flows.open_gate(trace.path, "second")
            await run.retry()
            await eventually(lambda: "gate" in trace.lines(), "the gate")
            flows.open_gate(trace.path, "gate")
            client = await engine.restart()
            run = await client.get("r")
            assert await outcome(run) == "second gate"
            await sound(run)

    async def test_25_what_came_after_the_failed_step_is_set_aside(self) -> None:
        @aob.workflow
        async def both(trace: str) -> list[Any]:
            try:
                return [await once_open(trace, "second"), await note(trace, "good")]
            except ConnectionError:
                await note(trace, "bad")
                aob.emit("bad")
                raise

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(both)
            run = await client.start(both, trace.path, run_id="r")
            assert (await failure(run)).step == "once_open#1"
            flows.open_gate(trace.path, "second")
            await run.retry()
            assert await outcome(run) == ["second", "good"]
            assert trace.lines() == ["second", "bad", "second", "good"]
            client = await engine.restart()
            assert await outcome(await client.get("r")) == ["second", "good"]

    async def test_25_the_blamed_step_is_found_behind_other_errors(self) -> None:
        @aob.workflow
        async def wraps(trace: str, how: str) -> list[Any]:
            if how == "group":
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(_await(call)) for call in (once_open(trace, "a"), note(trace, "b"))]
                return [t.result() for t in tasks]
            try:
                return [await once_open(trace, "a")]
            except ConnectionError as e:
                if how == "from":
                    raise LookupError("behind it") from e
                raise LookupError("in between")  # noqa: B904 (the context is what is looked at)

        async with self.engine() as engine:
            client = await engine.open(wraps)
            for how in ("group", "from", "context"):
                trace = engine.trace(how)
                run = await client.start(wraps, trace.path, how, run_id=how)
                assert (await failure(run)).step == "once_open#1"
                flows.open_gate(trace.path, "a")
                await run.retry()
                assert (await outcome(run))[0] == "a"
                await sound(run)

    async def test_25_without_a_failed_step_only_the_last_turn_runs_again(self) -> None:
        broken = [True]

        @aob.workflow
        async def turns(trace: str) -> str:
            first = await note(trace, "first")
            await note(trace, "second")
            if broken[0]:
                raise LookupError("a mistake of ours")
            return first

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(turns)
            run = await client.start(turns, trace.path, run_id="r")
            assert (await failure(run)).step is None
            await run.retry()
            assert isinstance((await failure(run)).__cause__, LookupError)
            broken[0] = False
            await run.retry()
            assert await outcome(run) == "first"
            assert trace.lines() == ["first", "second"]
            await sound(run)

    async def test_25_a_run_that_timed_out_gets_its_time_again(self) -> None:
        @aob.workflow(timeout=0.6)
        async def limited(trace: str) -> list[str]:
            first = await note(trace, "first")
            try:
                return [first, await flows.gate(trace, "gate")]
            except asyncio.CancelledError:
                await note(trace, "clean")
                raise

        async with self.beside(limited) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(limited, trace.path, run_id=f"r{n}")
                await failure(run, aob.RunTimedOut)
                handle = run if from_here else await other.get(f"r{n}")
                await handle.retry()
                await failure(await client.get(f"r{n}"), aob.RunTimedOut)
                flows.open_gate(trace.path, "gate")
                await handle.retry()
                assert await outcome(await client.get(f"r{n}")) == ["first", "gate"]
                assert trace.lines() == ["first", *["gate", "clean"] * 2, "gate", "through gate"]
                await sound(run)

    async def test_25_a_run_that_compensated_refuses_and_can_be_forked(self) -> None:
        async with self.beside(undoes) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(undoes, trace.path, run_id="r")
            await failure(run)
            for handle in (run, await other.get("r")):
                assert "fork" in await refused(handle.retry(), aob.AlreadyCompensated)
            assert trace.lines() == ["gate", "undo"]
            flows.open_gate(trace.path, "gate")
            fork = await run.fork(at="once_open#1")
            assert await outcome(fork) == "gate"

    async def test_25_other_ends_and_open_runs_refuse(self) -> None:
        async with self.beside(flows.twice, flows.waits) as (_, client, other):
            done = await client.start(flows.twice, 1, run_id="done")
            await outcome(done)
            cancelled = await client.start(flows.waits, "go", run_id="cancelled")
            await cancelled.cancel()
            await failure(cancelled, aob.RunCancelled)
            gone = await client.start(flows.waits, "go", run_id="gone")
            await gone.terminate()
            await client.start(flows.waits, "go", run_id="open")
            for run_id, kind in (
                ("done", RunFinished), ("cancelled", RunFinished), ("gone", RunFinished), ("open", NotFinished),
            ):  # fmt: skip
                for handle in (await client.get(run_id), await other.get(run_id)):
                    assert run_id in await refused(handle.retry(), kind)

    async def test_25_idempotency_keys_stay_the_same(self) -> None:
        @aob.activity
        async def pays(trace: str) -> str:
            flows.leave(trace, aob.info().idempotency_key)
            return await once_open.plan.fn(trace, "open")

        @aob.workflow
        async def orders(trace: str) -> str:
            await keyed(trace, "a")
            return await pays(trace)

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(orders)
            run = await client.start(orders, trace.path)
            await failure(run)
            flows.open_gate(trace.path, "open")
            await run.retry()
            await outcome(run)
            keys = [line for line in trace.lines() if line.startswith("aob/")]
            assert len(keys) == 2
            assert len(set(keys)) == 1

    async def test_25_a_late_attempt_of_before_changes_nothing(self) -> None:
        @aob.workflow
        async def beside(trace: str) -> list[str]:
            slow = asyncio.create_task(_await(flows.stays(trace)))
            await eventually_begun(trace)
            return [await once_open(trace, "open"), await slow]

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(beside)
            run = await client.start(beside, trace.path, run_id="r")
            await failure(run)
            flows.open_gate(trace.path, "open")
            await run.retry()
            await has(run, "step_completed", 2)
            flows.open_gate(trace.path, "stubborn")
            assert await outcome(run) == ["open", "stubborn"]
            await sound(run)
            assert await client.list(status="completed")

    async def test_25_a_retry_behind_a_checkpoint(self) -> None:
        @aob.workflow
        async def rounds(trace: str) -> list[str]:
            done: list[str] = aob.checkpoint_state(list[str]) or []
            if len(done) == 3:
                return done
            aob.emit("round", len(done))
            if len(done) == 2:
                done.append(await once_open(trace, "gate"))
            else:
                done.append(await note(trace, str(len(done))))
            aob.checkpoint(done)

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(rounds)
            run = await client.start(rounds, trace.path, run_id="r")
            await failure(run)
            client = await engine.restart()
            run = await client.get("r")
            flows.open_gate(trace.path, "gate")
            await run.retry()
            assert await outcome(run) == ["0", "1", "gate"]
            assert trace.lines() == ["0", "1", "gate", "gate"]
            assert [e.data["data"] for e in await of_kind(run, "emitted")] == [0, 1, 2]

    async def test_25_a_child_that_failed_is_retried_with_its_parent(self) -> None:
        async with self.beside(mother, buys) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(mother, trace.path, run_id="r")
            assert (await failure(run)).step == "buys#1"
            await run.retry()
            await failure(await client.get("r"))
            flows.open_gate(trace.path, "second")
            await (await other.get("r")).retry()
            assert await outcome(await client.get("r")) == ["mother", "first", "second", "third"]
            assert trace.lines() == ["mother", "first", "second", "second", "second", "third"]
            assert await (await client.get("child")).status() == "completed"
            client = await engine.restart(mother, buys)
            for run_id in ("r", "child"):
                await sound(await client.get(run_id))

    async def test_25_a_child_that_was_cancelled_by_the_failure_goes_on(self) -> None:
        @aob.workflow
        async def beside(trace: str) -> list[Any]:
            child = asyncio.create_task(_await(flows.waits.options(run_id="child")("go")))
            await aob.wait_signal("go")
            return [await once_open(trace, "open"), await child]

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(beside, flows.waits)
            run = await client.start(beside, trace.path, run_id="r")
            await eventually(lambda: _exists(client, "child"), "the child")
            child = await client.get("child")
            await child.signal("go", 1)
            await run.signal("go")
            await failure(run)
            await failure(child, aob.RunCancelled)
            flows.open_gate(trace.path, "open")
            await run.retry()
            await has(run, "step_completed")
            child = await client.get("child")
            await eventually(lambda: _open(child), "the child to be open")
            await child.signal("go", "end")
            assert await outcome(run) == ["open", [1]]
            for handle in (run, child):
                await sound(handle)

    async def test_25_a_ticket_that_was_withdrawn_by_the_failure_is_open_again(self) -> None:
        @aob.workflow
        async def beside(trace: str) -> list[Any]:
            asked = asyncio.create_task(aob.approval("May I?"))
            await aob.wait_signal("go")
            return [await once_open(trace, "open"), (await asked).by]

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(beside)
            run = await client.start(beside, trace.path, run_id="r")
            await run.signal("go")
            await failure(run)
            await eventually(lambda: _tickets(client, "withdrawn"), "the ticket to be withdrawn")
            flows.open_gate(trace.path, "open")
            await run.retry()
            await eventually(lambda: _tickets(client, "open"), "the ticket to be open")
            client = await engine.restart()
            run = await client.get("r")
            (ticket,) = await client.tickets()
            await client.decide(ticket.id, True, by="ann")
            assert await outcome(run) == ["open", "ann"]
            await a_while(0.05)
            await sound(run)

    async def test_25_another_process_retries(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            trace = engine.trace()
            client = await engine.open(buys)
            run = await client.start(buys, trace.path, run_id="r")
            await failure(run)
            flows.open_gate(trace.path, "second")
            process = await engine.process()
            await process.run("r", "retry")
            assert await outcome(await client.get("r")) == ["first", "second", "third"]


async def eventually_begun(trace: str) -> None:
    """Let the stubborn step begin before the next."""
    await flows.nap("begun", 0.1)


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _exists(client: Any, run_id: str) -> bool:
    return any(r.run_id == run_id for r in await client.list())


async def _open(run: aob.Run[Any]) -> bool:
    return await run.status() in ("running", "waiting")


async def _tickets(client: Any, status: str) -> bool:
    return len(await client.tickets(status=status)) == 1
