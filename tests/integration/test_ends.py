"""I9: whatever is on its way to the store when a run is ended from outside, nothing but late facts follows the end."""

import asyncio
from pathlib import Path

import aob
from aob.kernel.events import TERMINAL

RUNS = 100


@aob.activity
async def tick(i: int) -> int:
    return i


@aob.workflow
async def ticking() -> None:
    for i in range(100_000):
        await tick(i)


async def test_nothing_but_late_facts_follows_an_end_from_outside(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url) as client, client.serve(ticking), aob.connect(url) as outside:
        runs = [await client.start(ticking, run_id=f"r{i}") for i in range(RUNS)]
        await asyncio.sleep(0.05)
        await asyncio.gather(*(_ended(outside, run.run_id) for run in runs))
        for run in runs:
            kinds = [e.kind for e in await run.history()]
            end = next(i for i, kind in enumerate(kinds) if kind in TERMINAL)
            assert set(kinds[end + 1 :]) <= {"late"}
            assert await run.status() == "terminated"


async def _ended(client: aob.Client, run_id: str) -> None:
    await (await client.get(run_id)).terminate("enough")
