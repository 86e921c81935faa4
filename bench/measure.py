"""How it is measured: floor and engine in turns in one process, medians, and the ratio of the two."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import msgspec

import aob
from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.sqlite import SqliteOptions, open_store
from bench.floor import Floor
from bench.work import WORKFLOWS

_WARM = 20


class Figure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One measured thing. `ratio` is ours by the floor's, `cpu_ratio` the same of CPU time for the same work."""

    metric: str
    unit: str
    ours: float
    floor: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    note: str = ""


class Bench(msgspec.Struct):
    """What a measurement is given.

    Args:
        directory: empty, on the disk that is to be measured.
        rounds: how often floor and engine take turns.
        scale: of the loads; 1 is what the documentation quotes.
        report: takes a figure.
    """

    directory: Path
    rounds: int
    scale: float
    report: Callable[[Figure], None]

    def sized(self, count: int) -> int:
        """A load, scaled."""
        return max(round(count * self.scale), 1)

    def say(self, metric: str, unit: str, ours: float, note: str = "") -> None:
        """Report what has no floor."""
        self.report(Figure(metric=metric, unit=unit, ours=ours, note=note))


class Turns(msgspec.Struct):
    """What floor and engine took, a round each: (wall, CPU) in seconds."""

    floor: list[tuple[float, float]] = []
    ours: list[tuple[float, float]] = []

    def wall(self) -> tuple[float, float]:
        """Medians of the floor and of the engine."""
        return statistics.median(w for w, _ in self.floor), statistics.median(w for w, _ in self.ours)

    def cpu_ratio(self) -> float:
        """CPU time of the engine by the floor's."""
        return statistics.median(c for _, c in self.ours) / statistics.median(c for _, c in self.floor)


Work = Callable[[int], Awaitable[None]]


async def in_turns(rounds: int, floor: Work, ours: Work) -> Turns:
    """Do the same work on both, one after the other, `rounds` times after one that does not count."""
    turns = Turns()
    for k in range(rounds + 1):
        for work, taken in ((floor, turns.floor), (ours, turns.ours)):
            gc.collect()
            wall, cpu = perf_counter(), process_time()
            await work(k)
            taken.append((perf_counter() - wall, process_time() - cpu))
    del turns.floor[0], turns.ours[0]
    return turns


def rate(bench: Bench, metric: str, turns: Turns, count: int, note: str) -> None:
    """Report how many a second."""
    floor, ours = (count / wall for wall in turns.wall())
    cpu = turns.cpu_ratio()
    bench.report(
        Figure(metric=metric, unit="1/s", ours=ours, floor=floor, ratio=ours / floor, cpu_ratio=cpu, note=note)
    )


def times(bench: Bench, metric: str, unit: str, floor: float, ours: float, note: str, cpu: float | None = None) -> None:
    """Report a time, or another cost."""
    bench.report(Figure(metric=metric, unit=unit, ours=ours, floor=floor, ratio=ours / floor, cpu_ratio=cpu, note=note))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


@asynccontextmanager
async def engine(
    path: Path, vfs: str | None = None, settings: aob.Settings | None = None
) -> AsyncGenerator[aob.Client]:
    """A client and a worker in this process."""
    if vfs is None:
        async with aob.connect(f"sqlite:///{path}", settings=settings) as client, client.serve(*WORKFLOWS):
            yield client
        return
    clock, process = SystemClock(), SystemProcess()
    store = await open_store(f"sqlite:///{path}", clock=clock, process=process, options=SqliteOptions(vfs=vfs))
    try:
        client = aob.Client(store.url, settings=settings, clock=clock, process=process, store=store)
        async with client, client.serve(*WORKFLOWS):
            yield client
    finally:
        await store.close()


@asynccontextmanager
async def both(bench: Bench) -> AsyncGenerator[tuple[Floor, aob.Client]]:
    """Floor and engine, on one disk, in one process."""
    floor = Floor(bench.directory / "floor.db")
    async with engine(bench.directory / "aob.db") as client:
        yield floor, client
    floor.close()


async def at_most(limit: int, jobs: Sequence[Callable[[], Awaitable[Any]]]) -> None:
    """All of them, a task for each, `limit` in flight."""
    gate = asyncio.Semaphore(limit)

    async def one(job: Callable[[], Awaitable[Any]]) -> None:
        async with gate:
            await job()

    await asyncio.gather(*(one(job) for job in jobs))


async def until(holds: Callable[[], bool], look_every: float = 0.01) -> None:
    """Wait for something that nobody tells of."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(look_every)


def resident_kib() -> int:
    """This process's memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
