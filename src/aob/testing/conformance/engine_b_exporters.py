"""The log as outbox: exporters are given every committed event, in order; nothing is deleted that somebody needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import aob
from aob import telemetry
from aob.client.client import Client
from aob.engine.exporter import LogEvent
from aob.engine.retention import sweep
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has
from aob.testing.conformance.engine_harness import AnyWorkflow, EngineUnderTest, eventually, outcome, reaches, refused

SOON = {"retention_days": 1e-9, "sweep_every": 0.02}
"""Settings with which runs are deleted as soon as they may be."""


class Recorder:
    """An exporter that keeps what it is given.

    `down`: it raises. `stuck`: it takes what it is given, and does not return.
    """

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.events: list[LogEvent] = []
        self.calls = 0
        self.down = False
        self.stuck = False

    async def export(self, events: Sequence[LogEvent]) -> None:
        self.calls += 1
        if self.down:
            raise ConnectionError("nobody answers")
        self.events += events
        while self.stuck:  # noqa: ASYNC110 (the test says when)
            await asyncio.sleep(0.005)

    def of(self, run_id: str) -> list[LogEvent]:
        """A run's events, each once, in the order in which they came first."""
        return list({event.id: event for event in self.events if event.run_id == run_id}.values())

    def has(self, run_id: str, seq: int | None) -> bool:
        """Whether this event of a run has come."""
        return any(event.seq == seq for event in self.of(run_id))

    def again(self) -> int:
        """How many events came more than once."""
        return len(self.events) - len({event.id for event in self.events})

    def in_order(self) -> bool:
        """Whether each partition's events came, at first, in the order of its log."""
        first = sorted({event.id: event for event in self.events}.values(), key=lambda event: event.partition)
        places = [[e.position for e in events] for _, events in groupby(first, key=lambda event: event.partition)]
        return all(positions == sorted(set(positions)) for positions in places)


async def has_all(recorder: Recorder, *runs: aob.Run[Any]) -> None:
    """Wait until the exporter has all that these runs have done; see that it is just that, in order."""
    for run in runs:
        history = await run.history()
        last = history[-1].seq
        await eventually(lambda run=run, last=last: recorder.has(run.run_id, last), f"{run} to be exported")
        got = recorder.of(run.run_id)
        assert [(e.seq, e.at, e.kind, e.step, e.data) for e in got] == [
            (e.seq, e.at, e.kind, e.step, e.data) for e in history
        ]
        assert {(e.tenant, e.workflow) for e in got} == {(run.tenant, (await run.summary()).workflow)}
    assert recorder.in_order()
    assert all(e.id == f"{e.partition}:{e.position}" for e in recorder.events)


async def cursors(client: Client, name: str = "recorder") -> dict[int, int]:
    """How far an exporter has come."""
    return {row.partition: row.position for row in await client.store.cursors(name)}


async def gone(run: aob.Run[Any]) -> bool:
    """Whether a run was deleted."""
    return await run._client.store.get_run(run.tenant, run.run_id) is None  # pyright: ignore[reportPrivateUsage]


@aob.workflow
async def asks(trace: str) -> list[str]:
    """A child, whose result it needs."""
    return await flows.gated.options(run_id="child")(trace)


@aob.workflow
async def pauses(number: int) -> int:
    """Two steps, then a wait."""
    number = await flows.plus(await flows.plus(number))
    await aob.wait_signal("go")
    return number


class ExporterTests(BesideSetting):
    """Exporters, and what retention leaves."""

    @asynccontextmanager
    async def exporting(
        self, recorder: Recorder, *workflows: AnyWorkflow, **settings: Any
    ) -> AsyncGenerator[tuple[EngineUnderTest, Client]]:
        """A client that serves these workflows with an exporter."""
        async with self.engine() as engine:
            client = await engine.open(**settings)
            await engine.serve(client, *workflows, exporters=[recorder])
            yield engine, client

    async def test_10_every_event_is_exported_in_order_and_with_its_payloads(self) -> None:
        recorder = Recorder()
        async with self.exporting(recorder, flows.waits, flows.twice, blob_over=30) as (_, client):
            runs = [await client.start(flows.waits, run_id=f"w{n}") for n in range(5)]
            for word in ("one", {"$aob": "odd"}, "x" * 100, "end"):
                for run in runs:
                    await run.signal("go", word)
            runs += [await client.start(flows.twice, n, run_id=f"t{n}") for n in range(20)]
            for run in runs:
                await outcome(run)
            await has_all(recorder, *runs)
            assert recorder.again() == 0

    async def test_10_exporters_do_not_wait_for_each_other_and_a_new_one_begins_at_the_beginning(self) -> None:
        one, two, later = Recorder("one"), Recorder("two"), Recorder("later")
        two.stuck = True
        async with self.engine() as engine:
            client = await engine.open()
            await engine.serve(client, flows.twice, exporters=[one, two])
            runs = [await client.start(flows.twice, n) for n in range(3)]
            for run in runs:
                await outcome(run)
            await has_all(one, *runs)
            two.stuck = False
            await has_all(two, *runs)
            await engine.close()
            client = await engine.open()
            await engine.serve(client, flows.twice, exporters=[one, later])
            more = [await client.start(flows.twice, n) for n in range(3)]
            for run in more:
                await outcome(run)
            both = [await client.get(run.run_id) for run in (*runs, *more)]
            await has_all(later, *both)
            await has_all(one, *both)
            assert (one.again(), later.again()) == (0, 0)

    async def test_10_a_worker_that_stops_has_exported_everything(self) -> None:
        recorder = Recorder()
        async with self.exporting(recorder, flows.twice) as (engine, client):
            runs = [await client.start(flows.twice, n, run_id=f"r{n}") for n in range(30)]
            for run in runs:
                await outcome(run)
            await engine.close()
            client = await engine.open()
            assert {n: len(recorder.of(f"r{n}")) for n in range(30)} == dict.fromkeys(range(30), 4)
            await has_all(recorder, *[await client.get(run.run_id) for run in runs])

    async def test_10_what_fails_is_exported_again_and_runs_go_on_meanwhile(self) -> None:
        recorder, told = Recorder(), list[dict[str, Any]]()
        recorder.down = True
        unsubscribe = telemetry.subscribe(lambda name, fields: told.append({"name": name, **fields}))
        try:
            async with self.exporting(recorder, flows.twice) as (_, client):
                runs = [await client.start(flows.twice, n) for n in range(5)]
                for run in runs:
                    await outcome(run)
                await eventually(lambda: recorder.calls >= 2, "a second attempt")
                assert set((await cursors(client)).values()) == {0}
                recorder.down = False
                await has_all(recorder, *runs)
                assert recorder.again() == 0
        finally:
            unsubscribe()
        failed = [fields for fields in told if fields["name"] == "export_failed"]
        assert failed
        told_of = {(fields["exporter"], fields["error"]) for fields in failed}
        assert told_of == {("recorder", "ConnectionError: nobody answers")}

    async def test_10_what_an_exporter_took_before_a_crash_comes_again_under_the_same_ids(self) -> None:
        before, after = Recorder(), Recorder()
        before.stuck = True
        async with self.exporting(before, flows.twice) as (engine, client):
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            await eventually(lambda: before.calls > 0, "the exporter to take something")
            await engine.crash()
            client = await engine.open()
            await engine.serve(client, flows.twice, exporters=[after])
            await has_all(after, await client.get("r"))
            assert after.again() == 0
            assert [e for e in after.events if e.id in {e.id for e in before.events}] == before.events

    async def test_10_a_replaced_owner_moves_no_cursor_though_its_exporter_returns_late(self) -> None:
        old, new = Recorder(), Recorder()
        old.stuck = True
        async with self.exporting(old, flows.twice, lease_ttl=60.0) as (engine, client):
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            await eventually(lambda: old.calls > 0, "the exporter to take something")
            other = await engine.usurp(flows.twice, exporters=[new])
            more = await other.start(flows.twice, 2, run_id="more")
            await outcome(more)
            await has_all(new, await other.get("r"), more)
            came_to = await cursors(other)
            old.stuck = False
            await a_while()
            assert await cursors(other) == came_to
            assert {e.run_id for e in old.events} == {"r"}

    async def test_21_a_run_stays_until_it_is_exported(self) -> None:
        recorder = Recorder()
        recorder.down = True
        async with self.exporting(recorder, flows.twice, **SOON) as (_, client):
            run = await client.start(flows.twice, 1, run_id="r")
            assert await outcome(run) == 3
            await eventually(lambda: recorder.calls > 0, "the exporter to be asked")
            await a_while()
            assert [e.kind for e in await run.history()][-1] == "run_completed"
            assert await refused(client.delete("r"), aob.NotExported)
            recorder.down = False
            await eventually(lambda: gone(run), "the run to be deleted")
            assert [e.seq for e in recorder.of("r")] == [1, 2, 3, 4]

    async def test_21_a_delete_waits_for_an_exporter_that_is_at_work(self) -> None:
        recorder = Recorder()
        async with self.exporting(recorder, flows.twice) as (_, client):
            for n in range(10):
                run = await client.start(flows.twice, n, run_id="r")
                await outcome(run)
                recorder.stuck = n == 9
                deleting = asyncio.ensure_future(client.delete("r"))
                if recorder.stuck:
                    await a_while(0.05)
                    recorder.stuck = False
                await deleting
                assert await gone(run)
            assert len([e for e in recorder.events if e.kind == "run_completed"]) == 10

    async def test_21_a_dropped_exporter_holds_nothing_back(self) -> None:
        recorder = Recorder()
        recorder.down = True
        async with self.exporting(recorder, flows.twice) as (engine, client):
            await outcome(await client.start(flows.twice, 1, run_id="r"))
            await engine.close()
            client = await engine.open(flows.twice)
            assert await refused(client.delete("r"), aob.NotExported)
            assert await client.store.drop_exporter("recorder") >= 1
            await client.delete("r")
            assert await gone(await client.start(flows.twice, 2, run_id="r")) is False

    async def test_21_a_childs_result_stays_until_its_parent_has_it(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(asks, flows.gated)
            await client.start(asks, trace.path, run_id="parent")
            await trace.until(2)
            await engine.close()
            client = await engine.open(flows.gated, **SOON)  # nobody serves the parent
            flows.open_gate(trace.path, "gate")
            child = await client.get("child")
            await reaches(child, "completed")
            await a_while()
            assert await child.status() == "completed"
            assert await refused(client.delete("child"), aob.StillNeeded)
            await engine.close()
            client = await engine.open(asks, flows.gated)
            assert await outcome(await client.get("parent")) == ["before", "gate", "after"]
            assert (trace.lines().count("before"), trace.lines().count("after")) == (1, 1)
            await client.delete("child")

    async def test_21_with_no_retention_all_goes_children_and_forks_too(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(asks, flows.gated, flows.twice, **SOON)
            flows.open_gate(trace.path, "gate")
            run = await client.start(asks, trace.path, run_id="parent")
            for n in range(20):
                await client.start(flows.twice, n)

            async def nothing_left() -> bool:
                return not (await client.list()).runs

            await eventually(nothing_left, "all runs to be deleted")
            assert await gone(run)
            assert trace.lines().count("after") == 1

    async def test_21_a_fork_of_a_run_that_is_about_to_go_is_whole_or_refused(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(pauses, **SOON)
            forks: list[aob.Run[int]] = []
            for n in range(25):
                run = await client.start(pauses, n, run_id=f"r{n}")
                await has(run, "step_completed", 2)
                await run.signal("go")
                await a_while(0.001 * n)
                try:
                    forks.append(await run.fork(at="plus#2", run_id=f"f{n}"))
                except aob.RunNotFound:
                    continue
            assert forks
            for fork in forks:
                assert [e.seq for e in await fork.history()] == [1, 2, 3, 4]
                await fork.signal("go")
                await eventually(lambda fork=fork: gone(fork), "the fork to be deleted")

    async def test_21_a_reader_of_a_run_that_is_deleted_is_told_so(self) -> None:
        async with self.engine() as engine:
            client, other = await engine.open(flows.waits), await engine.open()
            for reuse in (False, True):
                run = await client.start(flows.waits, run_id="r")
                got: list[aob.Event] = []
                reading = asyncio.ensure_future(_read(await other.get("r"), got))
                await eventually(lambda got=got: len(got) == 1, "the reader to begin")
                reading.cancel()
                await run.signal("go", "end")
                await outcome(run)
                rest = (await other.get("r")).events(after=1)
                first = await anext(rest)
                assert first.seq == 2
                await client.delete("r")
                if reuse:
                    await client.start(flows.waits, run_id="r")
                try:
                    seqs = [event.seq async for event in rest]
                except aob.RunNotFound:
                    continue
                assert seqs == [3], "what is missing was not told"

    async def test_21_a_replaced_owner_deletes_nothing(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(flows.breaks_once, lease_ttl=60.0, retention_days=1e-9, sweep_every=3600.0)
            trace = engine.trace()
            trace.write("began")
            run = await client.start(flows.breaks_once, trace.path, run_id="r")
            await failure(run)
            zombie = client.host()
            assert zombie is not None
            other = await engine.usurp(flows.breaks_once)
            assert await sweep(zombie) == 0
            again = await other.get("r")
            await again.retry()
            assert await sweep(zombie) == 0
            assert await outcome(again) == "mended"
            assert await sweep(zombie) == 0
            assert [e.kind for e in await again.history()][-1] == "run_completed"
            await has(again, "run_reopened")


async def _read(run: aob.Run[Any], got: list[aob.Event]) -> None:
    async for event in run.events():
        got.append(event)
