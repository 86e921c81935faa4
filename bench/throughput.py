"""Many runs at once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aob
from bench.floor import Floor
from bench.measure import Bench, at_most, both, in_turns, rate, times
from bench.work import floor_seq, seq

_IN_FLIGHT = 500


async def floor_run(floor: Floor, name: str, steps: int) -> Any:
    run = await floor.start(floor_seq, name, steps)
    return await run.ended


async def our_run(client: aob.Client, name: str, steps: int) -> Any:
    run = await client.start(seq, name, steps, run_id=name)
    return await run.result()


async def steps_per_s(bench: Bench) -> None:
    """200 runs at once, 50 steps each, one after the other; and what a step costs on disk."""
    runs, steps = bench.sized(200), 50
    async with both(bench) as (floor, client):

        async def least(k: int) -> None:
            await asyncio.gather(*(floor_run(floor, f"r{k}-{i}", steps) for i in range(runs)))

        async def ours(k: int) -> None:
            await asyncio.gather(*(our_run(client, f"r{k}-{i}", steps) for i in range(runs)))

        turns = await in_turns(bench.rounds, least, ours)
        rate(bench, "steps_per_s", turns, runs * steps, f"{runs} runs at once, {steps} steps each")
    total = runs * steps * (bench.rounds + 1)
    sizes = [(bench.directory / name).stat().st_size / total for name in ("floor.db", "aob.db")]
    times(bench, "bytes_per_step", "B", sizes[0], sizes[1], "size of the closed file")


async def starts_per_s(bench: Bench) -> None:
    """One-step runs, started one by one and in batches, until all have their results."""
    count = bench.sized(5_000)
    async with both(bench) as (floor, client):

        async def least(k: int) -> None:
            await at_most(_IN_FLIGHT, [partial(floor_run, floor, f"s{k}-{i}", 1) for i in range(count)])

        async def ours(k: int) -> None:
            await at_most(_IN_FLIGHT, [partial(our_run, client, f"s{k}-{i}", 1) for i in range(count)])

        async def least_at_once(k: int) -> None:
            await asyncio.gather(*(floor_run(floor, f"m{k}-{i}", 1) for i in range(count)))

        async def batches(k: int) -> None:
            names = [f"m{k}-{i}" for i in range(count)]
            started = await client.start_many(seq, [(name, 1) for name in names], run_ids=names)
            await asyncio.gather(*(run.result() for run in started))

        turns = await in_turns(bench.rounds, least, ours)
        rate(
            bench, "starts_per_s", turns, count, f"{count} runs of one step, {_IN_FLIGHT} in flight, with their results"
        )
        turns = await in_turns(bench.rounds, least_at_once, batches)
        rate(
            bench, "start_many_per_s", turns, count, f"{count} runs of one step through start_many, with their results"
        )
