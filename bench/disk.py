"""A disk whose syncs take 20 ms: does the process stay responsive, and do more runs get more done?"""

from __future__ import annotations

import asyncio
import time
from time import perf_counter
from typing import Any

import apsw

from bench.floor import Floor
from bench.measure import Bench, Figure, engine, percentile
from bench.throughput import floor_run, our_run

_SYNC = 0.02
_LOOK = 0.005


class SlowDisk(apsw.VFS):
    """The real disk, with slower syncs."""

    def __init__(self) -> None:
        self.name = "slow"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _SlowFile("", name, flags)


class _SlowFile(apsw.VFSFile):
    def xSync(self, flags: int) -> None:
        time.sleep(_SYNC)
        super().xSync(flags)


async def slow_disk(bench: Bench) -> None:
    """Steps a second and event-loop lag as runs grow, on a disk whose syncs take 20 ms."""
    disk = SlowDisk()
    for runs in (1, 10, 100, 1_000):
        steps = max(bench.sized(40), 10)
        floor = Floor(bench.directory / f"floor{runs}.db", vfs=disk.name)
        least, _ = await _measured(*(floor_run(floor, f"f{i}", steps) for i in range(runs)))
        floor.close()
        async with engine(bench.directory / f"aob{runs}.db", vfs=disk.name) as client:
            await asyncio.gather(*(our_run(client, f"w{i}", 5) for i in range(runs)))
            took, lags = await _measured(*(our_run(client, f"r{i}", steps) for i in range(runs)))
        count = runs * steps
        note = f"{runs} runs of {steps} steps at once, {_SYNC * 1e3:.0f} ms a sync"
        metric = f"slow_disk_{runs}_runs"
        bench.report(
            Figure(
                metric=f"{metric}_steps_per_s", unit="1/s", ours=count / took, floor=count / least,
                ratio=least / took, note=note,
            )
        )  # fmt: skip
        bench.say(f"{metric}_lag_p99", "ms", percentile(lags, 99) * 1e3, f"{note}; event-loop lag")


async def _measured(*work: Any) -> tuple[float, list[float]]:
    lags: list[float] = []

    async def look() -> None:
        while True:
            began = perf_counter()
            await asyncio.sleep(_LOOK)
            lags.append(max(perf_counter() - began - _LOOK, 0))

    looking = asyncio.ensure_future(look())
    began = perf_counter()
    await asyncio.gather(*work)
    took = perf_counter() - began
    looking.cancel()
    return took, lags
