"""Item 23: what an open run did before an old checkpoint is deleted, and a reader gets an explicit gap."""

from __future__ import annotations

import asyncio
from typing import Any

import aob
from aob.client.client import Client
from aob.engine.history import HistoryGone
from aob.engine.payloads import blobs_in
from aob.kernel.events import decode_event
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind
from aob.testing.conformance.engine_harness import eventually, kinds, outcome, reaches, refused

SOON = {"retention_days": 1e-6, "sweep_every": 0.02}
"""Settings with which history is deleted as soon as it may be."""


@aob.workflow
async def adds() -> int:
    """A step for each signal, and its running sum; until `None`."""
    total: int = aob.checkpoint_state(int) or 0
    number = await aob.wait_signal("go")
    if number is None:
        return total
    aob.checkpoint(await flows.plus(total, number))


@aob.workflow
async def takes() -> list[int]:
    """A signal a pass, and in the middle a wait."""
    got: list[int] = aob.checkpoint_state(list[int]) or []
    if len(got) == 8:
        return got
    got.append(await aob.wait_signal("n"))
    if len(got) == 4:
        await aob.wait_signal("more")
    aob.checkpoint(got)


@aob.workflow
async def keeps() -> list[int]:
    """Updates, a pass each."""
    got: list[int] = aob.checkpoint_state(list[int]) or []

    @aob.update
    def put(value: int) -> int:
        got.append(value)
        return len(got)

    before = len(got)
    await aob.wait_until(lambda: len(got) > before)
    if got[-1] < 0:
        return got
    aob.checkpoint(got)


@aob.activity
async def large(fill: str) -> str:
    """A result that does not fit into an event."""
    return fill * 300


@aob.workflow
async def larges() -> int:
    """A large result a pass."""
    done: int = aob.checkpoint_state(int) or 0
    await aob.wait_signal("go")
    await large(str(done))
    aob.checkpoint(done + 1)


@aob.workflow
async def two_parts(trace: str) -> str:
    """Two steps, a checkpoint, two steps of which the first may fail."""
    if aob.checkpoint_state() is None:
        await flows.plus(1)
        await flows.plus(2)
        aob.checkpoint(1)
    await flows.gate(trace, "gate")
    await aob.wait_signal("go")
    if await flows.plus(3) and trace not in _mended:
        raise ValueError("not yet")
    return "done"


_mended: set[str] = set()


async def with_gap(run: aob.Run[Any], to: int) -> list[aob.Event]:
    """The history, once all up to `to` is deleted: in order, and nothing is missing that the gap does not tell."""
    found: list[aob.Event] = []

    async def there() -> bool:
        found[:] = await run.history()
        return any(e.kind == "gap" and e.data["to"] >= to for e in found)

    await eventually(there, f"events up to {to} of {run.run_id} to be deleted")
    whole(found)
    return found


def whole(events: list[aob.Event]) -> None:
    """See that events are in order, and none is missing but those of gaps."""
    assert [e.at for e in events] == sorted(e.at for e in events)
    numbers: list[int] = []
    for event in events:
        if event.kind == "gap":
            assert event.seq == event.data["to"]
            assert set(event.data) == {"from", "to"}
        assert event.seq is not None
        numbers += range(event.data["from"] if event.kind == "gap" else event.seq, event.seq + 1)
    assert numbers == list(range(1, len(numbers) + 1))


async def code_of(call: Any) -> str:
    """The code with which a call is refused."""
    try:
        await call
    except aob.AobError as e:
        return e.code
    raise AssertionError("the call was not refused")


async def added(client: Client, numbers: int, run_id: str = "r") -> aob.Run[int]:
    """A run of `adds` with so many passes behind it."""
    run = await client.start(adds, run_id=run_id)
    for n in range(numbers):
        await run.signal("go", n)
        await has_rest(run, 3 * n + 4)
    return run


class GapTests(BesideSetting):
    """Item 23, after the retention time."""

    async def test_23_what_was_before_a_checkpoint_is_deleted_and_a_reader_gets_a_gap(self) -> None:
        async with self.beside(adds, **SOON) as (_, client, other):
            run = await added(client, 6)
            history = await with_gap(run, 18)
            assert [(e.seq, e.kind) for e in history] == [(1, "run_started"), (18, "gap"), (19, "checkpoint")]
            assert history[1].data == {"from": 2, "to": 18}
            assert await (await other.get("r")).history() == history
            for after in (0, 1, 2, 17, 18):
                seen = [await anext(run.events(after=after)), await anext((await other.get("r")).events(after=after))]
                assert seen == [next(e for e in history if (e.seq or 0) > after)] * 2
            await run.signal("go", None)
            assert await outcome(run) == 15

    async def test_23_a_watcher_who_comes_back_goes_on_behind_the_gap(self) -> None:
        async with self.serving(adds, **SOON) as client:
            run = await added(client, 4)
            await with_gap(run, 12)
            seen = 1
            watching = run.events(after=seen)
            await run.signal("go", None)
            events = [event async for event in watching]
            assert [e.kind for e in events] == ["gap", "checkpoint", "signal_received", "run_completed"]
            assert [e.seq for e in events] == [12, 13, 14, 15]

    async def test_23_the_run_goes_on_from_its_checkpoint_after_a_crash(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(adds, **SOON)
            run = await added(client, 5)
            await with_gap(run, 15)
            await engine.crash()
            client = await engine.open(adds)
            run = await client.get("r")
            await run.signal("go", 100)
            await run.signal("go", None)
            assert await outcome(run) == 110
            assert [line for line in await kinds(run) if "plus" in line] == ["step_completed plus#6"]
            whole(await run.history())
            client = await engine.restart()
            assert await outcome(await client.get("r")) == 110

    async def test_23_what_came_while_a_checkpoint_was_made_is_not_deleted_before_it_is_dealt_with(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(takes, **SOON)
            run = await client.start(takes, run_id="r")
            await reaches(run, "waiting")
            await asyncio.gather(*(run.signal("n", n) for n in range(8)))
            await has(run, "checkpoint", 1)
            await with_gap(run, 2)
            await a_while()
            await engine.crash()
            client = await engine.open(takes)
            run = await client.get("r")
            await run.signal("more")
            assert sorted(await outcome(run)) == list(range(8))
            whole(await run.history())

    async def test_23_history_without_an_old_checkpoint_stays(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(adds, flows.waits, sweep_every=0.02)
            young = await added(client, 4)
            await a_while()
            assert await of_kind(young, "gap") == []
            await engine.close()
            client = await engine.open(adds, flows.waits, **SOON)
            without = await client.start(flows.waits, run_id="without")
            await without.signal("go", 1)
            await with_gap(await client.get("r"), 12)
            await a_while()
            assert await of_kind(without, "gap") == []

    async def test_23_large_payloads_go_too(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(larges, **SOON, blob_over=200)
            run = await client.start(larges, run_id="r")
            await run.signal("go")
            await has(run, "checkpoint")
            row = await client.store.get_run(run.tenant, "r")
            assert row is not None
            stored = [decode_event(e.kind, e.version, e.data) for e in await client.store.events(row.key, 0, 100)]
            (digest,) = [d for event in stored for d in blobs_in(event)] or [""]
            if digest:
                assert await client.store.blob(digest) is not None
            for n in range(3):
                await run.signal("go")
                await has_rest(run, 3 * n + 7)
            await with_gap(run, 12)
            if digest:
                assert await client.store.blob(digest) is None

    async def test_23_a_fork_begins_behind_the_gap(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(adds, **SOON)
            run = await added(client, 3)
            await with_gap(run, 9)
            await engine.crash()
            client = await engine.open(adds)
            run = await client.get("r")
            for n in (3, 4):
                await run.signal("go", 10 * (n - 2))
                await has_rest(run, 3 * n + 4)
            assert await code_of(run.fork(at="plus#2", run_id="no")) == "history_gone"
            assert "event 9" in await refused(run.fork(overrides={"plus#3": 7}, run_id="no"), HistoryGone)
            assert await code_of(run.fork(at="plus#9", run_id="no")) == "step_not_found"
            assert await code_of(client.get("no")) == "run_not_found"
            forks = {
                13: await run.fork(at="plus#4", run_id="at"),
                8: await run.fork(overrides={"plus#5": 8}, run_id="instead"),
                33: await run.fork(run_id="whole"),
            }
            for sum_, fork in forks.items():
                await fork.signal("go", None)
                assert await outcome(fork) == sum_, fork.run_id
                whole(await fork.history())
                assert [e.seq for e in await of_kind(fork, "gap")] == [9]
            other = await run.fork(input={}, run_id="anew")
            await other.signal("go", None)
            assert await outcome(other) == 0
            await run.signal("go", None)
            assert await outcome(run) == 33

    async def test_23_what_a_fork_shares_stays(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(adds)
            run = await added(client, 4)
            fork = await run.fork(at="plus#3", run_id="f")
            before = await fork.history()
            await engine.close()
            client = await engine.open(adds, **SOON)
            run, fork = await client.get("r"), await client.get("f")
            history = await with_gap(run, 12)
            shared = next(e.seq or 0 for e in before if e.kind == "run_reopened") - 1
            assert (await fork.history())[:shared] == before[:shared]
            assert history[shared].data["from"] == shared + 1
            await engine.crash()
            client = await engine.open(adds)
            run, fork = await client.get("r"), await client.get("f")
            await fork.signal("go", None)
            await run.signal("go", None)
            assert (await outcome(fork), await outcome(run)) == (3, 6)

    async def test_23_a_fork_has_a_gap_of_its_own(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(adds)
            run = await added(client, 2)
            fork = await run.fork(run_id="f")
            for n in (1, 2):
                await fork.signal("go", 10 * n)
                await has_rest(fork, 3 * n + 8)
            await engine.close()
            client = await engine.open(adds, **SOON)
            fork = await client.get("f")
            assert (await with_gap(fork, 13))[-2].data == {"from": 8, "to": 13}
            await engine.crash()
            client = await engine.open(adds)
            fork = await client.get("f")
            await fork.signal("go", None)
            assert await outcome(fork) == 31
            assert (await fork.summary()).run_id == "f"

    async def test_23_a_failed_run_is_retried_from_behind_the_gap(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace("retried")
            client = await engine.open(two_parts, **SOON)
            run = await client.start(two_parts, trace.path, run_id="r")
            await with_gap(run, 3)
            await engine.crash()
            client = await engine.open(two_parts)
            run = await client.get("r")
            flows.open_gate(trace.path, "gate")
            await run.signal("go")
            assert "not yet" in str(await failure(run))
            _mended.add(trace.path)
            await run.retry()
            assert await outcome(run) == "done"
            whole(await run.history())

    async def test_23_an_update_whose_answer_was_deleted_still_counts_once(self) -> None:
        async with self.beside(keeps, **SOON) as (_, client, other):
            run = await client.start(keeps, run_id="r")
            for n in range(3):
                assert await run.update("put", n, id=f"u{n}") == n + 1
                await has_rest(run, 3 * n + 4)
            await with_gap(run, 7)
            there = await other.get("r")
            for handle in (run, there):
                assert await code_of(handle.update("put", 0, id="u0")) == "history_gone"
            assert await there.update("put", 3, id="u3") == 4
            await run.update("put", -1)
            assert await outcome(run) == [0, 1, 2, 3, -1]

    async def test_23_a_loop_that_goes_on_keeps_no_more_than_the_retention_time(self) -> None:
        @aob.workflow
        async def loops() -> int:
            done: int = aob.checkpoint_state(int) or 0
            await aob.side_effect(lambda: done)
            await aob.sleep(0.002)
            if done == 300:
                return done
            aob.checkpoint(done + 1)

        async with self.serving(loops, **SOON) as client:
            run = await client.start(loops, run_id="r")
            longest = 0

            async def far() -> bool:
                nonlocal longest
                history = await run.history()
                whole(history)
                longest = max(longest, len(history))
                return (history[-1].seq or 0) > 600

            await eventually(far, "the loop to go on")
            assert longest < 600
            assert await outcome(run) == 300


async def has_rest(run: aob.Run[Any], seq: int) -> None:
    """Wait until a run's last event has this number."""

    async def rests() -> bool:
        return (await run.history())[-1].seq == seq

    await eventually(rests, f"event {seq} of run {run.run_id}")
