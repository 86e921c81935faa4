"""Item 24: a fork shares its origin's history up to a step, and is a run of its own from there."""

from __future__ import annotations

import asyncio
from typing import Any

import aob
from aob.errors import RunExists, StepNotFound
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, outcome, reaches, refused


@aob.activity
async def keyed(trace: str, name: str) -> str:
    """Leaves a line; returns the idempotency key."""
    flows.leave(trace, name)
    return f"{name} {aob.info().idempotency_key}"


@aob.workflow
async def three(trace: str, greeting: str = "hi") -> list[str]:
    """Three steps one after another."""
    return [greeting, *[await keyed(trace, name) for name in ("a", "b", "c")]]


@aob.workflow
async def draws(trace: str) -> list[Any]:
    """Random numbers before and after a step."""
    before = [aob.random().random(), str(aob.uuid4())]
    await keyed(trace, "a")
    return [*before, aob.random().random(), str(aob.uuid4()), aob.info().run_id]


@aob.workflow
async def asks(trace: str) -> list[Any]:
    """A step, a ticket and a child side by side, a step."""
    await keyed(trace, "a")
    decision, child = await asyncio.gather(aob.approval("May I?", data={"n": 1}), flows.waits("go"))
    return [decision.approved, decision.by, child, (await keyed(trace, "b"))[0]]


@aob.workflow
async def passes(trace: str) -> list[str]:
    """A step a pass."""
    done: list[str] = aob.checkpoint_state(list[str]) or []
    aob.emit("pass", len(done))
    if len(done) == 4:
        return [*done, aob.info().run_id]
    line = await keyed(trace, str(len(done)))
    aob.checkpoint([*done, line])


def names(lines: list[str]) -> list[str]:
    """Results of `keyed` without the keys."""
    return [line.split()[0] for line in lines]


class ForkTests(BesideSetting):
    """Item 24."""

    async def test_24_a_fork_does_again_what_came_from_the_step_on(self) -> None:
        async with self.beside(three) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(three, trace.path, run_id="r")
            live = await outcome(run)
            for n, handle in enumerate((run, await other.get("r"))):
                fork = await handle.fork(at="keyed#2", run_id=f"fork{n}")
                again = await outcome(fork)
                assert names(again) == names(live)
                assert again[1] == live[1]
                assert again[2] != live[2]
                assert f"/fork{n}/" in again[2]
                events = await sound(fork)
                assert [e.step for e in events if e.kind == "step_completed"] == ["keyed#1", "keyed#2", "keyed#3"]
            assert trace.lines() == ["a", "b", "c", "b", "c", "b", "c"]
            assert await outcome(await client.get("r")) == live
            assert {r.run_id for r in await client.list()} == {"r", "fork0", "fork1"}

    async def test_24_a_fork_that_is_given_no_id_makes_one(self) -> None:
        async with self.beside(three) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(three, trace.path, run_id="r")
            await outcome(run)
            forks = [await h.fork(at="keyed#3") for h in (run, await other.get("r"))]
            assert len({f.run_id for f in forks} | {"r"}) == 3
            for fork in forks:
                assert names(await outcome(fork)) == ["hi", "a", "b", "c"]

    async def test_24_overrides_answer_their_steps(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(three)
            run = await client.start(three, trace.path, run_id="r")
            await outcome(run)
            both = await run.fork(overrides={"keyed#2": "B", "keyed#3": "C"}, run_id="both")
            assert names(await outcome(both)) == ["hi", "a", "B", "C"]
            earlier = await run.fork(at="keyed#3", overrides={"keyed#2": "B"}, run_id="earlier")
            assert names(await outcome(earlier)) == ["hi", "a", "B", "c"]
            later = await run.fork(at="keyed#2", overrides={"keyed#3": "C"}, run_id="later")
            assert names(await outcome(later)) == ["hi", "a", "b", "C"]
            assert trace.lines() == ["a", "b", "c", "c", "b"]
            by = {e.step: e.data["by"] for e in await of_kind(both, "step_completed")}
            assert by == {"keyed#1": None, "keyed#2": "override", "keyed#3": "override"}
            client = await engine.restart()
            assert names(await outcome(await client.get("both"))) == ["hi", "a", "B", "C"]

    async def test_24_an_override_that_does_not_fit_its_step_fails_there(self) -> None:
        @aob.workflow
        async def adds(number: int) -> int | str:
            try:
                return await flows.plus(number)
            except aob.BadPayload as e:
                return e.code

        async with self.serving(adds) as client:
            run = await client.start(adds, 1)
            assert await outcome(run) == 2
            assert await outcome(await run.fork(overrides={"plus#1": 40})) == 40
            assert await outcome(await run.fork(overrides={"plus#1": "many"})) == "bad_payload"

    async def test_24_another_input_shares_nothing_but_overrides(self) -> None:
        async with self.beside(flows.shop, adds_twice) as (_, client, other):
            run = await client.start(adds_twice, 1, run_id="r")
            assert await outcome(run) == [2, 3]
            fork = await run.fork(input=10, overrides={"plus#2": 99}, run_id="f")
            assert await outcome(fork) == [11, 99]
            assert await outcome(await (await other.get("r")).fork(input=20, run_id="g")) == [21, 22]
            assert (await fork.history())[0].data["input"] == 10
            assert [e.kind for e in await sound(fork)].count("run_reopened") == 0

    async def test_24_steps_that_were_not_finished_and_ids_that_are_taken_are_refused(self) -> None:
        async with self.beside(three) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(three, trace.path, run_id="r")
            await outcome(run)
            for handle in (run, await other.get("r")):
                assert "keyed#3" in await refused(handle.fork(at="keyed#4"), StepNotFound)
                await refused(handle.fork(at="keyed#1", run_id="r"), RunExists)
                await refused(handle.fork(at="keyed#1", run_id="~"), aob.BadRunId)
            await run.fork(at="keyed#3", run_id="f")
            await refused(run.fork(at="keyed#2", run_id="f"), RunExists)
            assert len(await client.list()) == 2

    async def test_24_random_numbers_are_the_same_before_the_cut_and_others_behind_it(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(draws)
            run = await client.start(draws, trace.path, run_id="r")
            live = await outcome(run)
            fork = await run.fork(at="keyed#1", run_id="f")
            forked = await outcome(fork)
            assert forked[:2] == live[:2]
            assert forked[2] not in live
            assert forked[3] not in live
            assert forked[4] == "f"
            client = await engine.restart()
            assert await outcome(await client.get("f")) == forked
            again = await outcome(await (await client.get("f")).fork(at="keyed#1", run_id="g"))
            assert again[:2] == live[:2]
            assert again[2] not in (live[2], forked[2])
            shared = await outcome(await (await client.get("f")).fork(run_id="h"))
            assert shared[:4] == forked[:4]

    async def test_24_a_fork_of_a_fork(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(three)
            run = await client.start(three, trace.path, run_id="r")
            await outcome(run)
            first = await run.fork(overrides={"keyed#2": "B"}, run_id="f")
            await outcome(first)
            client = await engine.restart()
            first = await client.get("f")
            second = await first.fork(at="keyed#3", run_id="g")
            third = await second.fork(at="keyed#1", run_id="h")
            assert names(await outcome(second)) == ["hi", "a", "B", "c"]
            assert names(await outcome(third)) == ["hi", "a", "b", "c"]
            client = await engine.restart()
            for run_id, want in (("f", "B"), ("g", "B"), ("h", "b")):
                handle = await client.get(run_id)
                assert names(await outcome(handle)) == ["hi", "a", want, "c"]
                await sound(handle)
            await client.delete("r")
            await client.delete("f")
            assert names(await outcome(await (await client.get("g")).fork(at="keyed#3"))) == ["hi", "a", "B", "c"]

    async def test_24_a_fork_of_a_running_run(self) -> None:
        async with self.beside(flows.gated) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(flows.gated, trace.path, run_id="r")
            await trace.until(2)
            forks = [await h.fork(run_id=f"f{n}") for n, h in enumerate((run, await other.get("r")))]
            await trace.until(4)
            flows.open_gate(trace.path, "gate")
            for handle in (run, *forks):
                assert await outcome(handle) == ["before", "gate", "after"]
                await sound(handle)
            assert sorted(trace.lines()) == ["after"] * 3 + ["before"] + ["gate"] * 3 + ["through gate"] * 3

    async def test_24_a_fork_is_not_paused_as_its_origin_was(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(flows.gated)
            run = await client.start(flows.gated, trace.path, run_id="r")
            await trace.until(2)
            await run.pause()
            flows.open_gate(trace.path, "gate")
            await has(run, "step_completed", 2)
            fork = await run.fork(run_id="f")
            assert await outcome(fork) == ["before", "gate", "after"]
            assert await run.status() == "paused"
            await run.resume()
            assert await outcome(run) == ["before", "gate", "after"]

    async def test_24_tickets_and_open_children_start_anew(self) -> None:
        async with self.beside(asks) as (engine, client, _):
            trace = engine.trace()
            run = await client.start(asks, trace.path, run_id="r")
            await eventually(lambda: _tickets(client, 1), "a ticket")
            await (await client.get("r~waits.1")).signal("go", "old")
            client = await engine.restart(asks)
            run = await client.get("r")
            fork = await run.fork(run_id="f")
            await eventually(lambda: _tickets(client, 2), "two tickets")
            tickets = {t.run_id: t for t in await client.tickets()}
            assert set(tickets) == {"r", "f"}
            assert tickets["f"].id != tickets["r"].id
            assert tickets["f"].data == {"n": 1}
            await client.decide(tickets["r"].id, True, by="ann")
            await (await client.get("r~waits.1")).signal("go", "end")
            assert await outcome(run) == [True, "ann", ["old"], "b"]
            await client.decide(tickets["f"].id, False, by="bob")
            await (await client.get("f~waits.1")).signal("go", "end")
            assert await outcome(fork) == [False, "bob", [], "b"]
            assert (await client.get("f~waits.1")).run_id == "f~waits.1"
            for handle in (run, fork):
                await sound(handle)

    async def test_24_a_fork_of_a_run_that_failed_or_timed_out_can_succeed(self) -> None:
        @aob.workflow(timeout=0.5)
        async def limited(trace: str) -> str:
            return f"{await keyed(trace, 'a')} {await flows.gate(trace, 'gate')}"

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(limited, flows.breaks_once)
            run = await client.start(limited, trace.path, run_id="late")
            await failure(run, aob.RunTimedOut)
            await a_while(0.6)
            flows.open_gate(trace.path, "gate")
            assert (await outcome(await run.fork(at="keyed#1", run_id="in-time"))).endswith("gate")
            run = await client.start(flows.breaks_once, trace.path, run_id="failed")
            await failure(run)
            assert await outcome(await run.fork(at="breaks#1", run_id="mended")) == "mended"

    async def test_24_a_fork_of_a_retried_run(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(flows.breaks_once)
            run = await client.start(flows.breaks_once, trace.path, run_id="r")
            await failure(run)
            await run.retry()
            assert await outcome(run) == "mended"
            for at in ("mark#1", "breaks#1"):
                fork = await run.fork(at=at)
                assert await outcome(fork) == "mended"
                await sound(fork)

    async def test_24_forks_of_runs_with_checkpoints(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(passes)
            run = await client.start(passes, trace.path, run_id="r")
            live = await outcome(run)
            for n in range(1, 5):
                fork = await run.fork(at=f"keyed#{n}", run_id=f"f{n}")
                got = await outcome(fork)
                assert names(got) == [*"0123", f"f{n}"]
                assert got[: n - 1] == live[: n - 1]
                assert all(f"/f{n}/" in line for line in got[n - 1 : 4])
                assert [e.data["data"] for e in await of_kind(fork, "emitted")] == [0, 1, 2, 3, 4]
                await sound(fork)

    async def test_24_a_forks_checkpoints_keep_its_name_across_a_crash(self) -> None:
        @aob.workflow
        async def slow(trace: str) -> list[str]:
            done: list[str] = aob.checkpoint_state(list[str]) or []
            if len(done) == 3:
                return [*done, aob.info().run_id]
            line = await keyed(trace, str(len(done)))
            await aob.wait_signal("go")
            aob.checkpoint([*done, line])

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(slow)
            run = await client.start(slow, trace.path, run_id="r")
            await run.signal("go")
            await has(run, "step_completed", 2)
            fork = await run.fork(at="keyed#2", run_id="f")
            for n in range(2):
                await reaches(fork, "waiting")
                await fork.signal("go")
                await has(fork, "checkpoint", 2 + n)
                client = await engine.restart()
                fork = await client.get("f")
            got = await outcome(fork)
            assert [("/f/" in line, "/r/" in line) for line in got[:3]] == [(False, True), (True, False), (True, False)]
            assert got[3] == "f"

    async def test_24_another_process_forks(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            trace = engine.trace()
            client = await engine.open(three)
            run = await client.start(three, trace.path, run_id="r")
            await outcome(run)
            process = await engine.process()
            wanted = {"at": "keyed#2", "overrides": {"keyed#3": "C"}, "run_id": "f"}
            await process.ask("run", run_id="r", method="fork", args=[], kwargs=wanted)
            assert names(await outcome(await client.get("f"))) == ["hi", "a", "b", "C"]

    async def test_24_forks_go_on_after_a_crash(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(flows.gated)
            run = await client.start(flows.gated, trace.path, run_id="r")
            await trace.until(2)
            forks = [await run.fork(run_id=f"f{n}") for n in range(3)]
            await trace.until(5)
            await engine.crash()
            flows.open_gate(trace.path, "gate")
            client = await engine.open(flows.gated)
            for fork in forks:
                handle = await client.get(fork.run_id)
                assert await outcome(handle) == ["before", "gate", "after"]
                await sound(handle)
            assert trace.lines().count("before") == 1


@aob.workflow
async def adds_twice(number: int) -> list[int]:
    one = await flows.plus(number)
    return [one, await flows.plus(one)]


async def _tickets(client: Any, count: int) -> bool:
    return len(await client.tickets()) == count
