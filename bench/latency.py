"""One thing at a time."""

from __future__ import annotations

import asyncio
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import aob
from bench.measure import Bench, Figure, both, engine, in_turns, percentile, times
from bench.throughput import floor_run, our_run
from bench.work import TICKS, fan, floor_fan, floor_wait, wait

_ROOT = Path(__file__).resolve().parent.parent


async def step_latency(bench: Bench) -> None:
    """The time from the start of a step to the start of the next, of one run that is alone."""
    steps = bench.sized(1_000)
    gaps: tuple[list[float], list[float]] = [], []
    async with both(bench) as (floor, client):

        def collect(into: list[float]) -> None:
            into += [(b - a) * 1e3 for a, b in pairwise(TICKS)]
            TICKS.clear()

        async def least(k: int) -> None:
            await floor_run(floor, f"l{k}", steps)
            collect(gaps[0])

        async def ours(k: int) -> None:
            await our_run(client, f"l{k}", steps)
            collect(gaps[1])

        turns = await in_turns(bench.rounds, least, ours)
    for percent in (50, 99):
        values = [percentile(side, percent) for side in gaps]
        note = f"one run of {steps} steps"
        cpu = turns.cpu_ratio() if percent == 50 else None
        times(bench, f"step_latency_p{percent}", "ms", *values, note, cpu)


async def start_to_result(bench: Bench) -> None:
    """One-step runs, one after the other."""
    count = bench.sized(200)
    taken: tuple[list[float], list[float]] = [], []
    async with both(bench) as (floor, client):

        async def least(k: int) -> None:
            for i in range(count):
                began = perf_counter()
                await floor_run(floor, f"o{k}-{i}", 1)
                taken[0].append((perf_counter() - began) * 1e3)

        async def ours(k: int) -> None:
            for i in range(count):
                began = perf_counter()
                await our_run(client, f"o{k}-{i}", 1)
                taken[1].append((perf_counter() - began) * 1e3)

        turns = await in_turns(bench.rounds, least, ours)
    for percent in (50, 99):
        values = [percentile(side, percent) for side in taken]
        cpu = turns.cpu_ratio() if percent == 50 else None
        times(bench, f"start_to_result_p{percent}", "ms", *values, f"{count} runs of one step in sequence", cpu)


async def fan_out(bench: Bench) -> None:
    """One run, 1,000 steps at once, joined."""
    width = bench.sized(1_000)
    async with both(bench) as (floor, client):

        async def least(k: int) -> None:
            run = await floor.start(floor_fan, f"f{k}", width)
            await run.ended

        async def ours(k: int) -> None:
            run = await client.start(fan, f"f{k}", width)
            await run.result()

        turns = await in_turns(bench.rounds, least, ours)
    low, high = turns.wall()
    times(bench, "fan_out", "ms", low * 1e3, high * 1e3, f"{width} parallel steps of one run", turns.cpu_ratio())


async def signal_roundtrip(bench: Bench) -> None:
    """From a signal to the waiting run's result, in the worker's process."""
    count = bench.sized(200)
    async with both(bench) as (floor, client):
        waiting = [await floor.start(floor_wait, f"w{i}") for i in range(count)]
        runs = [await client.start(wait, f"w{i}") for i in range(count)]
        await asyncio.sleep(0.5)
        taken: tuple[list[float], list[float]] = [], []
        for one, run in zip(waiting, runs, strict=True):
            began = perf_counter()
            floor.signal(one, {"answer": 1})
            await one.ended
            taken[0].append((perf_counter() - began) * 1e3)
            began = perf_counter()
            await run.signal("answer", {"answer": 1})
            await run.result()
            taken[1].append((perf_counter() - began) * 1e3)
    low, high = (statistics.median(side) for side in taken)
    times(bench, "signal_roundtrip_p50", "ms", low, high, f"{count} waiting runs, one after the other")


async def other_process(bench: Bench) -> None:
    """A run is signalled, and runs are started, by processes that do not own the store."""
    path, count = bench.directory / "aob.db", bench.sized(100)
    async with engine(path) as client:
        for i in range(count):
            await client.start(wait, f"x{i}", run_id=f"x{i}")
        await asyncio.sleep(0.5)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.caller", str(path), str(count), stdout=asyncio.subprocess.PIPE, cwd=_ROOT
        )
        out, _ = await child.communicate()
        taken = [float(line) for line in out.split()]
        _both_ends(
            bench, "signal_roundtrip_other_process", taken, "from the call to the result, both in another process"
        )
        picked_up = [await _start_from_a_shell(client, path, i) for i in range(bench.sized(10))]
    _both_ends(
        bench, "pickup", picked_up, "`aob run start` in another process: from its durable message to the first step"
    )


async def _start_from_a_shell(client: aob.Client, path: Path, i: int) -> float:
    name = f"shell-{i}"
    command = (
        "from aob.cli.main import main; main()", "run", "start", "seq", "--inputs", f'{{"run": "{name}", "n": 1}}',
        "--id", name, "--store", f"sqlite:///{path}",
    )  # fmt: skip
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", *command, stdout=asyncio.subprocess.DEVNULL)
    await child.wait()
    run = await client.get(name)
    await run.result()
    step = next(e for e in await run.history() if e.kind == "step_completed")
    summary = await run.summary()
    return (step.at - summary.created).total_seconds() * 1e3


def _both_ends(bench: Bench, metric: str, taken: list[float], note: str) -> None:
    for percent in (50, 99):
        bench.report(
            Figure(
                metric=f"{metric}_p{percent}", unit="ms", ours=percentile(taken, percent), note=f"{note}; {len(taken)}"
            )
        )
