"""I8: timers fire once and never early, whatever the clocks do and however often the worker is restarted."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

import aob
from aob import clock as clock_module
from aob.client.client import Client
from aob.clock import SystemClock
from aob.testing.oracle import look, problems
from tests.crash.scenario import WORKFLOWS, Here, Ledger

HOUR = 3600.0


class SetClock(SystemClock):
    """A host's clock that somebody sets."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead * 1e6)


@aob.workflow
async def alarm_clock(seed: int, timers: int) -> int:
    draw = Random(seed)

    async def ring(seconds: float) -> None:
        due = aob.now().timestamp() + seconds
        await aob.sleep(seconds)
        assert aob.now().timestamp() >= due - 1e-5, f"{aob.now().timestamp()} is before {due}"

    async with asyncio.TaskGroup() as tasks:
        for _ in range(timers):
            tasks.create_task(ring(draw.random()))
    return timers


async def ring(directory: Path, clock: SetClock, runs: int, timers: int) -> None:
    """Start runs with timers, set the clock an hour back and forth and restart the worker, until all have fired."""
    Here.effects = Ledger(directory / "effects.jsonl")
    url = f"sqlite:///{directory}/aob.db"
    draw = Random(7)
    ended = False
    while not ended:
        async with Client(url, clock=clock) as client, client.serve(*WORKFLOWS, alarm_clock):
            started = [await client.start(alarm_clock, n, timers, run_id=f"r{n}") for n in range(runs)]
            results = asyncio.gather(*(run.result() for run in started))
            for ahead in (0.0, HOUR * draw.choice((-1, 0, 1)), 0.0):
                clock.ahead = ahead
                await asyncio.wait([results], timeout=0.15)
            ended = results.done()
            if ended:
                assert await results == [timers] * runs
            results.cancel()
            await asyncio.gather(results, return_exceptions=True)


async def fired(directory: Path) -> list[Any]:
    async with Client(f"sqlite:///{directory}/aob.db") as client:
        seen = await look(client.store)
    assert problems(seen) == []
    return [row.seq for events in seen.events.values() for row in events if row.kind == "timer_fired"]


@pytest.mark.crash
@pytest.mark.parametrize(
    ("runs", "timers"),
    [(10, 30), pytest.param(100, 100, marks=[pytest.mark.needs("exhaustive"), pytest.mark.timeout(1_200)])],
)
async def test_timers_fire_once_and_never_early(
    runs: int, timers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "_LOOK_AGAIN", 0.05)
    await ring(tmp_path, SetClock(), runs, timers)
    assert len(await fired(tmp_path)) == runs * timers
