"""One worker on Postgres: what is measured of the embedded engine, beside a bare client of the same server."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import msgspec

import aob
from bench.measure import Bench, Figure, at_most, percentile
from bench.server import floor_rows_per_s, process_seconds, server, server_seconds
from bench.throughput import our_run
from bench.work import TICKS, WORKFLOWS, fan, wait
from tests.postgres_cluster import Cluster

_ROOT = Path(__file__).resolve().parent.parent
_FLOOR_BATCHES = 250


@asynccontextmanager
async def worker(url: str) -> AsyncGenerator[aob.Client]:
    """A client and a worker in this process."""
    async with aob.connect(url) as client, client.serve(*WORKFLOWS):
        yield client


async def postgres(bench: Bench) -> None:
    """Throughput and latencies of one process."""
    with server(bench) as cluster:
        async with worker(cluster.fresh("bench")) as client:
            await _steps(bench, cluster, client)
            await _starts(bench, cluster, client)
            await _one_run(bench, client)
            await _start_to_result(bench, client)
            await _fan_out(bench, client)
            await _signals(bench, cluster, client)


class Cost(msgspec.Struct):
    """What a round took: seconds of wall, of this process and of the server, and bytes of the server's log."""

    wall: float
    here: float
    there: float
    wal: int


async def _costs(cluster: Cluster, work: Callable[[], Awaitable[object]]) -> Cost:
    wal, here, there = _wal(cluster), process_seconds(os.getpid()), server_seconds(cluster)
    began = perf_counter()
    await work()
    wall = perf_counter() - began
    here, there = process_seconds(os.getpid()) - here, server_seconds(cluster) - there
    return Cost(wall, here, there, _wal(cluster) - wal)


def _wal(cluster: Cluster) -> int:
    return int(cluster.sql("select pg_current_wal_lsn() - '0/0'"))


async def _rates(
    bench: Bench, cluster: Cluster, what: str, count: int, note: str, work: Callable[[int], Awaitable[object]]
) -> None:
    """Report how many a second, by the rows a second of a bare client measured in turns, and what one costs."""
    floor: list[float] = []
    costs: list[Cost] = []
    for k in range(bench.rounds + 1):
        floor.append(await floor_rows_per_s(cluster, bench.sized(_FLOOR_BATCHES)))
        costs.append(await _costs(cluster, partial(work, k)))
    del floor[0], costs[0]
    least, rate = statistics.median(floor), statistics.median(count / cost.wall for cost in costs)
    here, there = (statistics.median(getattr(c, name) / c.wall for c in costs) for name in ("here", "there"))
    note = f"{note}; the floor is rows of a bare client; cores busy: Python {here:.2f}, Postgres {there:.2f}"
    bench.report(Figure(metric=f"pg_{what}s_per_s", unit="1/s", ours=rate, floor=least, ratio=rate / least, note=note))
    for name, side in (("here", "python"), ("there", "postgres")):
        cost = statistics.median(getattr(c, name) for c in costs) / count
        bench.say(f"pg_{what}_cpu_{side}", "µs", cost * 1e6, "processor time of each")
    bench.say(f"pg_{what}_wal", "B", statistics.median(c.wal for c in costs) / count, "of the server's log for each")


async def _steps(bench: Bench, cluster: Cluster, client: aob.Client) -> None:
    runs, steps = bench.sized(200), 50
    before = int(cluster.sql("select pg_database_size('bench')"))

    async def work(k: int) -> None:
        await asyncio.gather(*(our_run(client, f"r{k}-{i}", steps) for i in range(runs)))

    note = f"{runs} runs at once, {steps} steps each"
    await _rates(bench, cluster, "step", runs * steps, note, work)
    grown = int(cluster.sql("select pg_database_size('bench')")) - before
    total = runs * steps * (bench.rounds + 1)
    bench.say("pg_bytes_per_step", "B", grown / total, "growth of the database; each result has about 200 bytes")


async def _starts(bench: Bench, cluster: Cluster, client: aob.Client) -> None:
    count = bench.sized(5_000)

    async def work(k: int) -> None:
        await at_most(500, [partial(our_run, client, f"s{k}-{i}", 1) for i in range(count)])

    note = f"{count} runs of one step, 500 in flight, with their results"
    await _rates(bench, cluster, "start", count, note, work)


async def _one_run(bench: Bench, client: aob.Client) -> None:
    steps = bench.sized(1_000)
    TICKS.clear()
    await our_run(client, "alone", steps)
    taken = [(after - before) * 1e3 for before, after in pairwise(TICKS)]
    _both_ends(bench, "pg_step_latency", taken, f"one run of {steps} steps")


async def _start_to_result(bench: Bench, client: aob.Client) -> None:
    taken: list[float] = []
    for i in range(bench.sized(300)):
        began = perf_counter()
        await our_run(client, f"one-{i}", 1)
        taken.append((perf_counter() - began) * 1e3)
    _both_ends(bench, "pg_start_to_result", taken, f"{len(taken)} runs of one step, one after the other")


async def _fan_out(bench: Bench, client: aob.Client) -> None:
    width, taken = bench.sized(1_000), list[float]()
    for k in range(bench.rounds + 1):
        began = perf_counter()
        run = await client.start(fan, f"f{k}", width)
        await run.result()
        taken.append((perf_counter() - began) * 1e3)
    bench.say("pg_fan_out", "ms", statistics.median(taken[1:]), f"{width} parallel steps of one run")


async def _signals(bench: Bench, cluster: Cluster, client: aob.Client) -> None:
    count = bench.sized(200)
    for i in range(count):
        await client.start(wait, f"x{i}", run_id=f"x{i}")
    await asyncio.sleep(0.5)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.caller", cluster.url("bench"), str(count),
        stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
    )  # fmt: skip
    out, _ = await child.communicate()
    taken = [float(line) for line in out.split()]
    _both_ends(
        bench, "pg_signal_other_process", taken, f"from the call to the result, both in another process; {count}"
    )


def _both_ends(bench: Bench, metric: str, taken: list[float], note: str) -> None:
    for percent in (50, 99):
        bench.say(f"{metric}_p{percent}", "ms", percentile(taken, percent), note)
