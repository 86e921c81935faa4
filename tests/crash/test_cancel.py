"""I9: cancelled means stopped, whenever the cancel comes: one end, nothing after it, no step begun later."""

import asyncio
from random import Random

import pytest

import aob
import aob.testing
from aob.testing.oracle import look, problems

begun: list[tuple[str, float]] = []


@aob.activity(retry=aob.Retry(initial=0.5, jitter=0))
async def toil(n: int) -> int:
    begun.append((aob.info().run_id, aob.now().timestamp()))
    await asyncio.sleep(0.3)
    if n % 3 == 2 and aob.info().attempt < 2:
        raise ConnectionError("busy")
    return n


@aob.activity(on_cancel="wait")
async def careful(n: int) -> int:
    begun.append((aob.info().run_id, aob.now().timestamp()))
    try:
        await asyncio.sleep(0.7)
    finally:
        await asyncio.sleep(0.1)
    return n


@aob.activity
async def tidy() -> None:
    await asyncio.sleep(0.2)


@aob.workflow
async def helper(n: int) -> int:
    await aob.sleep(0.4)
    return await toil(n)


@aob.workflow(fidelity="full")
async def project(n: int) -> int:
    try:
        async with aob.saga():
            aob.compensate(tidy)
            for i in range(n):
                await toil(i)
            async with asyncio.TaskGroup() as tasks:
                for i in range(n):
                    tasks.create_task(helper(i))
                tasks.create_task(careful(n))
            async with asyncio.timeout(1):
                await aob.wait_signal("never")
    except TimeoutError:
        return n
    finally:
        await aob.sleep(0.1)
    return 0


async def cancelled_at(seconds: float, seed: int) -> set[str]:
    begun.clear()
    async with aob.testing.environment(seed=seed) as env:
        run = await env.start(project, 3, run_id="r")
        await env.advance(seconds)
        await run.cancel("enough")
        await env.advance(100)
        seen = await look(env.client.store)
        assert problems(seen) == [], seconds
        for (_, run_id), row in seen.runs.items():
            assert row.ended is not None, (seconds, run_id, row.status)
            late = [at for name, at in begun if name == run_id and at > row.ended / 1e6]
            assert late == [], (seconds, run_id)
        return {row.status for row in seen.runs.values()}


@pytest.mark.crash
@pytest.mark.parametrize(
    "seeds", [60, pytest.param(2_000, marks=[pytest.mark.needs("exhaustive"), pytest.mark.timeout(1_200)])]
)
async def test_a_cancel_at_any_moment_stops_everything(seeds: int) -> None:
    ends: set[str] = set()
    for seed in range(seeds):
        ends |= await cancelled_at(Random(seed).uniform(0, 5), seed)
    assert ends == {"cancelled", "completed"}
