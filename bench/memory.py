"""What runs cost that do nothing just now. Linux: memory is read from /proc."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter, process_time

import aob
from bench import work
from bench.floor import Floor
from bench.measure import Bench, engine, resident_kib, times, until
from bench.work import floor_wait, hold, sleeper

_WARM = 1_000


async def active_runs(bench: Bench) -> None:
    """Memory of runs with a step in flight. The floor's wait for a message."""
    count = bench.sized(9_000)
    floor = Floor(bench.directory / "floor.db")
    kept = [await floor.start(floor_wait, f"w{i}") for i in range(_WARM)]
    before = _settled()
    kept += [await floor.start(floor_wait, f"f{i}") for i in range(count)]
    least = (_settled() - before) / count
    floor.close()
    work.gate = asyncio.Event()
    async with engine(bench.directory / "aob.db") as client:
        names = [f"w{i}" for i in range(_WARM)]
        await client.start_many(hold, names, run_ids=names)
        await _all_held(_WARM)
        before = _settled()
        names = [f"a{i}" for i in range(count)]
        handles = await client.start_many(hold, names, run_ids=names)
        await _all_held(_WARM + count)
        ours = (_settled() - before) / count
        times(
            bench,
            "active_run_memory",
            "KiB",
            least,
            ours,
            f"resident memory of each of {count} runs with a step in flight",
        )
        work.gate.set()
        await asyncio.gather(*(handle.result() for handle in handles))
    del kept


async def _all_asleep(client: aob.Client) -> None:
    """Until the worker keeps none of them in memory."""
    host = client.host()
    assert host is not None
    await until(lambda: not host.residents.by_key)


async def _all_held(count: int) -> None:
    await until(lambda: len(work.HELD) >= count)
    await asyncio.sleep(0.2)


def _settled() -> int:
    gc.collect()
    return resident_kib()


async def sleeping_runs(bench: Bench) -> None:
    """100,000 runs that sleep for a day: memory and CPU while they do, and how soon a restarted worker is ready."""
    count = bench.sized(100_000)
    path = bench.directory / "aob.db"
    async with engine(path) as client:
        before = _settled()
        for start in range(0, count, 1_000):
            names = [f"z{i}" for i in range(start, min(start + 1_000, count))]
            await client.start_many(sleeper, [(name, 86_400.0) for name in names], run_ids=names)
        await _all_asleep(client)
        each = (_settled() - before) / count
        bench.say("sleeping_run_memory", "KiB", each, f"{count} runs that sleep, in the process that started them")
        bench.say("sleeping_runs_cpu", "ms/s", await _cpu(bench), f"CPU time a second with {count} sleeping runs")
    began = perf_counter()
    before = _settled()
    async with engine(path) as client:
        bench.say(
            "sleeping_runs_ready",
            "s",
            perf_counter() - began,
            f"from opening the store to a worker, with {count} sleeping runs",
        )
        await asyncio.sleep(1)
        each = (_settled() - before) / count
        bench.say("sleeping_run_memory_restarted", "KiB", each, f"{count} runs that sleep, in a worker that found them")
        bench.say(
            "sleeping_runs_cpu_restarted", "ms/s", await _cpu(bench), f"CPU time a second with {count} sleeping runs"
        )
        began = perf_counter()
        run = await client.start(sleeper, "one", 0.0)
        await run.result()
        bench.say("sleeping_runs_start_to_result", "ms", (perf_counter() - began) * 1e3, "one more run meanwhile")


async def idle(bench: Bench) -> None:
    """CPU of a worker with nothing to do."""
    async with engine(bench.directory / "aob.db"):
        await asyncio.sleep(1)
        bench.say("idle_cpu", "ms/s", await _cpu(bench), "CPU time a second of a worker without runs")


async def _cpu(bench: Bench) -> float:
    wall, cpu = perf_counter(), process_time()
    await asyncio.sleep(10 * bench.scale)
    return (process_time() - cpu) / (perf_counter() - wall) * 1e3
