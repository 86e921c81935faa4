"""There is no cap on a run's history: 50,000 steps finish, and a restart replays them without doing one again."""

import asyncio
from pathlib import Path

import aob

STEPS = 50_000
BESIDE = 100  # so many share a commit: the length of the history is the matter here, not the disk
made: list[int] = []


@aob.activity
async def double(n: int) -> int:
    made.append(n)
    return 2 * n


@aob.workflow
async def long(steps: int) -> int:
    total = 0

    @aob.query
    def so_far() -> int:
        return total

    for n in range(0, steps, BESIDE):
        total += sum(await asyncio.gather(*(double(i) for i in range(n, n + BESIDE))))

    await aob.wait_signal("finish")
    return total + await double(steps)


async def test_fifty_thousand_steps_are_replayed_and_none_is_made_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    made.clear()
    async with aob.connect(url) as client, client.serve(long):
        run = await client.start(long, STEPS, run_id="long")
        while len(made) < STEPS or await run.query("so_far") != 2 * sum(range(STEPS)):
            await aob.sleep(0.05)
    assert sorted(made) == list(range(STEPS))
    async with aob.connect(url) as client, client.serve(long):
        run = await client.get("long")
        assert await run.query("so_far") == 2 * sum(range(STEPS))
        assert len(made) == STEPS
        await run.signal("finish")
        assert await run.result() == 2 * sum(range(STEPS + 1))
        assert len(made) == STEPS + 1
        history = await run.history()
    assert [e.seq for e in history] == list(range(1, len(history) + 1))
    assert sum(e.kind == "step_completed" for e in history) == STEPS + 1
