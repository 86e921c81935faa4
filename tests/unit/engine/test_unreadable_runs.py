"""A run whose history cannot be read is parked when its time comes, and says why; the others go on."""

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.stores.chain import chain_after
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.rows import Append
from aob.testing.conformance.engine_harness import eventually, outcome, reaches


@aob.workflow
async def sleeps(seconds: float) -> str:
    await aob.sleep(seconds)
    return "awake"


async def test_a_waiting_run_with_an_event_of_a_newer_aob_is_parked_when_its_timer_fires() -> None:
    state = MemoryState()
    async with Client("sqlite://", store=MemoryStore(SystemClock(), state)) as client, client.serve(sleeps):
        run = await client.start(sleeps, 0.6, run_id="newer")
        other = await client.start(sleeps, 0.6, run_id="other")
        await reaches(run, "waiting")
        await reaches(other, "waiting")
    store = MemoryStore(SystemClock(), state)
    row = await store.get_run("default", "newer")
    lease = await store.acquire(0, "newer aob", 5)
    assert row is not None and lease is not None
    last = await store.last_event(row.key)
    assert last is not None
    event = (row, last.seq + 1, "step_teleported", 1, chain_after(last.chain, "step_teleported", b"[0]"), b"[0]")
    assert (await store.append(Append(epochs={0: lease.epoch}, events=[event]))).committed
    await store.release([lease])
    async with Client("sqlite://", store=MemoryStore(SystemClock(), state)) as client, client.serve(sleeps):
        run = await client.get("newer")
        assert await outcome(await client.get("other")) == "awake"
        await eventually(lambda: _parked(run), "the run to be parked")
        assert "unknown_event" in ((await run.summary()).reason or "")


async def _parked(run: aob.Run[str]) -> bool:
    return await run.status() == "parked"
