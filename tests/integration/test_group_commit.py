"""All runs of a process share commits: a slow disk is waited for once for all that is ready, not once for each run."""

import asyncio

import aob
from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.memory import MemoryStore, open_store
from aob.stores.rows import Append, Appended

STEPS = 5


class SlowStore:
    """A store whose commits take 20 ms, as on a disk with a slow fsync."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.commits = 0
        self.under_way = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def append(self, batch: Append) -> Appended:
        assert self.under_way == 0, "one commit at a time"
        self.under_way, self.commits = 1, self.commits + bool(batch.events)
        try:
            await asyncio.sleep(0.02)
            return await self._inner.append(batch)
        finally:
            self.under_way = 0


@aob.activity
async def step(n: int) -> int:
    return n + 1


@aob.workflow
async def steps(n: int) -> int:
    for _ in range(STEPS):
        n = await step(n)
    return n


async def _commits_for(runs: int) -> int:
    clock, process = SystemClock(), SystemProcess()
    store = SlowStore(await open_store("sqlite://", clock=clock, process=process))
    async with aob.Client("sqlite://", store=store) as client, client.serve(steps):  # pyright: ignore
        begun = await client.start_many(steps, list(range(runs)))
        assert await asyncio.gather(*(run.result() for run in begun)) == [n + STEPS for n in range(runs)]
    return store.commits


async def test_five_hundred_runs_take_hardly_more_commits_than_one() -> None:
    alone = await _commits_for(1)
    assert alone > STEPS, "each step is durable before the next begins"
    assert await _commits_for(500) <= alone * 4


async def test_the_loop_goes_on_while_a_commit_is_under_way() -> None:
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(other_work())
    commits = await _commits_for(20)
    working.cancel()
    assert turns > commits * 20
