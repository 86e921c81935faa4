"""`aob.testing.simulate`: a user's workflow in many worlds."""

import asyncio
from typing import Any

import pytest

import aob
from aob.testing import SimulationFailed, simulate

charged: dict[str, int] = {}


@aob.activity(retry=aob.Retry(max_attempts=20))
async def charge(amount: int) -> int:
    await asyncio.sleep(2)
    charged[aob.info().idempotency_key or ""] = amount
    return amount


@aob.workflow
async def order(amount: int) -> int:
    paid = await charge(amount)
    await aob.sleep(60)
    extra = await aob.wait_signal("extra", int, timeout=3_600)
    return paid + await charge(extra)


calls: list[int] = []


@aob.activity
async def count() -> int:
    await asyncio.sleep(30)
    calls.append(1)
    return len(calls)


@aob.workflow
async def counts_itself() -> int:
    return await count() + await count()


async def add_one(run: aob.Run[Any]) -> None:
    await run.signal("extra", 1, id="extra")


async def test_a_workflow_ends_the_same_in_every_world() -> None:
    done = await simulate(order, 5, drive=add_one, seeds=8, runs=3)
    assert done.seeds == 8
    assert done.hours > 0.5
    assert done.attempts > 2 * 8 * 3, "some attempts were made again"
    assert done.seen["kill"] > 0


async def test_a_workflow_that_counts_its_attempts_is_found_out() -> None:
    with pytest.raises(SimulationFailed, match="returned") as failed:
        await simulate(counts_itself, seeds=5, runs=2)
    with pytest.raises(SimulationFailed):
        await simulate(counts_itself, seeds=1, runs=2, first=failed.value.seed)


async def test_the_store_can_be_chosen() -> None:
    for store in ("sqlite", "memory", "fleet"):
        done = await simulate(order, 2, drive=add_one, seeds=1, runs=1, store=store)
        assert done.seeds == 1
