"""I3: an owner that was stopped past its lease is replaced, and when it wakes up it is refused and writes nothing."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

import aob
from aob.testing.oracle import problems
from tests.crash.lives import seen_in
from tests.crash.scenario import Ledger, errands
from tests.crash.workers import WorkerProcess, url_of, working

TTL = 0.8
RUNS = 8
STEPS = 60


async def swapped(owner: WorkerProcess, standby: WorkerProcess) -> bool:
    """Stop the owner until the other has taken over, and wake it; False when it held the file's lock all the time."""
    # one that is stopped before it has done anything is only a death without progress
    await owner.says("did", owner.told["did"] + 2 * RUNS)
    await asyncio.sleep(random.uniform(0, 0.05))
    taken = standby.told["lease_taken"]
    lost = owner.told["lease_lost"]
    owner.stop()
    try:
        async with asyncio.timeout(3 * TTL):
            await standby.says("lease_taken", taken + 1)
    except TimeoutError:
        owner.wake()
        await asyncio.sleep(TTL)  # now either of them may have it
        return False
    owner.wake()
    await owner.says("lease_lost", lost + 1)
    return True


async def swaps(directory: Path, count: int) -> Counter[str]:
    """Let two workers take a partition from one another; what both have said, once all runs have ended."""
    async with working(directory, TTL) as owner, working(directory, TTL) as standby:
        both = (owner, standby)
        async with aob.connect(url_of(directory)) as client:
            runs = [await client.start(errands, f"run-{i}", STEPS * count, run_id=f"run-{i}") for i in range(RUNS)]
            done = 0
            while done < count:
                done += await swapped(owner, standby)
                standby, owner = sorted(both, key=lambda worker: worker.epoch)
            for run in runs:
                if await run.status() == "running":
                    await run.terminate("enough")
        await owner.finish()
        await standby.finish()
    return both[0].told + both[1].told


async def check(directory: Path, count: int) -> None:
    told = await swaps(directory, count)
    assert told["lease_lost"] >= count
    assert told["append_refused"] > 0, "no stopped owner had anything to write: the test sees nothing"
    seen = await seen_in(directory)
    keys: dict[tuple[str, str, str], set[str]] = {}
    for line in Ledger(directory / "effects.jsonl").lines():
        keys.setdefault(("default", line["run"], line["step"]), set()).add(line["key"])
    assert problems(seen, keys) == []
    epochs = {row.epoch for events in seen.events.values() for row in events}
    assert len(epochs) >= count


@pytest.mark.crash
async def test_a_stopped_owner_is_replaced_and_refused(tmp_path: Path) -> None:
    await check(tmp_path, 3)


@pytest.mark.crash
@pytest.mark.needs("exhaustive")
@pytest.mark.timeout(1_200)
async def test_stopped_owners_are_refused_again_and_again(tmp_path: Path) -> None:
    await check(tmp_path, 60)
