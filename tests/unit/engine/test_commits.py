"""Group commit, where messages come first."""

import asyncio
from typing import cast

from msgspec import Raw

from aob.clock import SystemClock
from aob.engine.active import ActiveRun
from aob.engine.commits import Commits
from aob.engine.group import Record
from aob.engine.payloads import Payloads
from aob.kernel import events as ev
from aob.process import SystemProcess
from aob.stores.memory import open_store
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended, Lease, Message, RunRow
from aob.testing.seeded import StoreAround


async def test_a_result_behind_an_end_that_came_by_a_message_is_a_late_fact() -> None:
    store = await open_store("sqlite://", clock=SystemClock(), process=SystemProcess())
    lease = await store.acquire(0, "me", 60)
    assert isinstance(lease, Lease)
    row = RunRow(tenant="t", run_id="r", workflow="w", status="running", created=1, updated=1)
    await store.append(Append(epochs={0: lease.epoch}, starts=[row]))
    run = ActiveRun(row, None)

    class Terminates:
        async def ready(self, messages: list[Message]) -> None:
            return

        def take(self, messages: list[Message]) -> None:
            commits.add(run, ev.RunTerminated(0, "enough"))
            run.ended = True
            commits.group().takes += [m.id for m in messages]

    commits = Commits(
        store,
        SystemClock(),
        Payloads(store, None, 1000),
        applied=lambda records, seqs: None,
        conflicts=lambda run, existing: None,
        inbox=Terminates(),
        stopped=lambda error: None,
    )
    commits.start([lease])
    await store.send(Message(tenant="t", run_id="r", kind="terminate", body=b"{}"))
    commits.add(run, ev.StepCompleted(0, "step#1", 0, Raw(b'"result"')))
    async with asyncio.timeout(5):
        await commits.ack()
    stored = await store.events(row.key, 0, 10)
    assert [(e.seq, e.kind) for e in stored] == [(1, "run_terminated"), (2, "late")]
    late = ev.decode_event("late", 1, stored[1].data)
    assert isinstance(late, ev.Late)
    assert (late.step, late.outcome, late.result) == ("step#1", "step_completed", Raw(b'"result"'))
    await store.close()


async def test_a_summary_says_that_a_run_has_ended_no_sooner_than_its_history() -> None:
    """It waits to be written that the run waits; a message that comes first ends the run."""
    inner = await open_store("sqlite://", clock=SystemClock(), process=SystemProcess())
    lease = await inner.acquire(0, "me", 60)
    assert isinstance(lease, Lease)
    row = RunRow(tenant="t", run_id="r", workflow="w", status="running", created=1, updated=1)
    await inner.append(Append(epochs={0: lease.epoch}, starts=[row]))
    run = ActiveRun(row, None)
    told: list[tuple[list[str], list[str]]] = []

    class Watching(StoreAround):
        async def append(self, batch: Append) -> Appended:
            appended = await self.inner.append(batch)
            if appended.committed:
                told.append(([event[2] for event in batch.events], [row.status for row in batch.summaries]))
            return appended

    class Signals:
        async def ready(self, messages: list[Message]) -> None:
            return

        def take(self, messages: list[Message]) -> None:
            commits.add(run, ev.SignalReceived(0, "go", Raw(b"null")))
            commits.group().takes += [m.id for m in messages]

    def applied(records: list[Record], seqs: list[int]) -> None:
        for _, event, _ in records:
            if isinstance(event, ev.SignalReceived):
                row.status, row.ended, run.ended = "completed", 2, True
                commits.add(run, ev.RunCompleted(0, Raw(b"1")))
                commits.group().summaries[id(run)] = run

    commits = Commits(
        cast("Store", Watching(inner)), SystemClock(), Payloads(inner, None, 1000), applied=applied,
        conflicts=lambda run, existing: None, inbox=Signals(), stopped=lambda error: None,
    )  # fmt: skip
    commits.start([lease])
    await inner.send(Message(tenant="t", run_id="r", kind="signal", body=b"{}"))
    row.status = "waiting"
    commits.group().summaries[id(run)] = run
    async with asyncio.timeout(5):
        await commits.drained()
    assert [kinds for kinds, _ in told if kinds] == [["signal_received"], ["run_completed"]]
    assert [kinds for kinds, statuses in told if "completed" in statuses] == [["run_completed"]]
    await inner.close()


async def test_who_owns_nothing_asks_for_no_messages() -> None:
    inner = await open_store("sqlite://", clock=SystemClock(), process=SystemProcess())
    asked: list[Append] = []

    class Watching(StoreAround):
        async def append(self, batch: Append) -> Appended:
            asked.append(batch)
            return await self.inner.append(batch)

    class NoMessages:
        async def ready(self, messages: list[Message]) -> None:
            return

        def take(self, messages: list[Message]) -> None:
            return

    lease = await inner.acquire(0, "me", 60)
    assert isinstance(lease, Lease)
    commits = Commits(
        cast("Store", Watching(inner)), SystemClock(), Payloads(inner, None, 1000), applied=lambda records, seqs: None,
        conflicts=lambda run, existing: None, inbox=NoMessages(), stopped=lambda error: None,
    )  # fmt: skip
    commits.start([lease])
    commits.poke()
    await commits.drained()
    assert len(asked) == 1
    commits.give_up(0)
    commits.poke()
    await asyncio.sleep(0.01)
    assert len(asked) == 1
    await inner.close()
