"""Group commit, where messages come first."""

import asyncio

from msgspec import Raw

from aob.clock import SystemClock
from aob.engine.active import ActiveRun
from aob.engine.commits import Commits
from aob.engine.payloads import Payloads
from aob.kernel import events as ev
from aob.process import SystemProcess
from aob.stores.memory import open_store
from aob.stores.rows import Append, Lease, Message, RunRow


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
