"""Several workers on one Postgres, and stores that hold much. `python -m bench.fleet URL` is one of the workers."""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
from collections import Counter
from pathlib import Path
from time import monotonic, perf_counter

import aob
from bench.measure import Bench, at_most, percentile, until
from bench.postgres import worker
from bench.server import process_seconds, server, server_seconds
from bench.throughput import our_run
from bench.work import WORKFLOWS, paced, seq, wait
from tests.postgres_cluster import Cluster

_ROOT = Path(__file__).resolve().parent.parent
_STEPS = 50
_FINISHED = """
with made as (
    insert into run (key, partition, tenant, run_id, workflow, status, created, updated, ended, input_hash,
                     checkpoint, deaths, origin_seq)
    select n, n % 256, 'default', 'old-' || n, 'seq', 'completed', n, n, n, decode(repeat('00', 16), 'hex'), 0, 0, 0
    from generate_series({first}, {last}) n returning key, partition
)
insert into event (run, seq, partition, epoch, position, kind, version, chain, data)
select key, seq, partition, 0, -(key * 4 + seq), 'step_completed', 1, 0, decode(repeat('20', 200), 'hex')
from made, generate_series(1, 3) seq
"""
"""Finished runs of three events, as lists and indexes see them: older than all others, read by nobody."""


class Member:
    """A worker process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.process: asyncio.subprocess.Process

    async def start(self) -> Member:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.fleet", self._url, stdin=asyncio.subprocess.PIPE, cwd=_ROOT
        )
        return self

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.returncode is None:
            self.process.send_signal(how)
        await self.process.wait()


_SHARES = """
select coalesce(min(n), 0) || ' ' || count(*)
from (select count(*) n from aob.partition where owner is not null group by owner) as shares
"""


async def _shared(cluster: Cluster, database: str, workers: int) -> None:
    """Until each worker holds its share."""
    await until(lambda: cluster.sql(_SHARES, database) == f"{256 // workers} {workers}")


async def fleet(bench: Bench) -> None:
    """One worker process and two, in turns: steps a second of runs that another process started."""
    runs = bench.sized(400)
    rates: dict[int, list[float]] = {1: [], 2: []}
    busy: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with server(bench) as cluster:
        for k in range(bench.rounds):
            for count, found in rates.items():
                name = f"fleet_{count}"
                url = cluster.fresh(name)
                async with aob.connect(url) as client:
                    members = [await Member(url).start() for _ in range(count)]
                    await _shared(cluster, name, count)
                    await _round(client, f"warm{k}", bench.sized(50))
                    pids = [member.process.pid for member in members]
                    there, here = server_seconds(cluster), sum(map(process_seconds, pids))
                    took = await _round(client, f"r{k}", runs)
                    found.append(runs * _STEPS / took)
                    workers = (sum(map(process_seconds, pids)) - here) / took
                    busy[count].append((workers, (server_seconds(cluster) - there) / took))
                    for member in members:
                        await member.end()
    for count, found in rates.items():
        python, database = (statistics.median(b[n] for b in busy[count]) for n in (0, 1))
        note = f"{runs} runs of {_STEPS} steps; cores busy: workers {python:.2f}, Postgres {database:.2f}"
        bench.say(f"pg_steps_per_s_of_{count}", "1/s", statistics.median(found), note)
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    bench.say("pg_two_workers_by_one", "", ratio, "median of the ratios, taken in turns")


async def _round(client: aob.Client, name: str, runs: int) -> float:
    began = perf_counter()
    names = [f"{name}-{i}" for i in range(runs)]
    started = await client.start_many(seq, [(name, _STEPS) for name in names], run_ids=names)
    await asyncio.gather(*(run.result() for run in started))
    return perf_counter() - began


async def takeover(bench: Bench) -> None:
    """Two workers, one of which is killed half-way through 100 runs of 20 steps of 50 ms."""
    runs, steps, seconds = bench.sized(100), 20, 0.05
    lost: list[float] = []
    again = 0
    with server(bench) as cluster:
        for k in range(bench.rounds):
            url, log = cluster.fresh("takeover"), bench.directory / f"work{k}.log"
            async with aob.connect(url) as client:
                members = [await Member(url).start() for _ in range(2)]
                await _shared(cluster, "takeover", 2)
                names = [f"p{i}" for i in range(runs)]
                inputs = [(name, steps, seconds, str(log)) for name in names]
                started = await client.start_many(paced, inputs, run_ids=names)
                half = runs * steps // 2
                await until(lambda log=log, half=half: log.exists() and log.read_bytes().count(b"\n") >= half)
                await members[0].end(signal.SIGKILL)
                killed = monotonic()
                done = Counter(name for name, _ in map(str.split, log.read_text().splitlines()))
                await asyncio.gather(*(run.result() for run in started))
                lost.append(monotonic() - killed - max(steps - done[name] for name in names) * seconds)
                again += log.read_bytes().count(b"\n") - runs * steps
                await members[1].end()
    note = "kill -9 of one of two workers (lease 5 s) to all results, less the time of the steps left"
    note += f"; {again / bench.rounds:.0f} of {runs * steps} attempts were made again"
    bench.say("pg_recovery", "s", statistics.median(lost), note)


async def many_open(bench: Bench) -> None:
    """A worker takes over very many runs that wait."""
    count = bench.sized(100_000)
    with server(bench) as cluster:
        url = cluster.fresh("many")
        async with worker(url) as client:
            names = [f"w{i}" for i in range(count)]
            await client.start_many(wait, names, run_ids=names)
            await asyncio.sleep(1)
        began = perf_counter()
        async with worker(url) as client:
            await _shared(cluster, "many", 1)
            ready = perf_counter() - began
            began = perf_counter()
            run = await client.get("w7")
            await run.signal("answer", {"answer": 1})
            await run.result()
            woken = (perf_counter() - began) * 1e3
    bench.say("pg_many_open_ready", "s", ready, f"from connecting to owning all of a store with {count} open runs")
    bench.say("pg_many_open_woken", "ms", woken, "from a signal to one of them to its result")


async def many_finished(bench: Bench) -> None:
    """What a million finished runs change."""
    count = bench.sized(1_000_000)
    with server(bench) as cluster:
        url = cluster.fresh("finished")
        figures: list[dict[str, float]] = []
        async with worker(url) as client:
            figures.append(await _hot_paths(bench, client, "before"))
            size = _size(cluster)
            for first in range(0, count, 50_000):
                last = min(first + 50_000, count) - 1
                cluster.sql("set search_path = aob;" + _FINISHED.format(first=first, last=last), "finished")
            cluster.sql("analyze", "finished")
            grown = _size(cluster) - size
            figures.append(await _hot_paths(bench, client, "after"))
            lists = await _lists(client)
    bench.say("pg_bytes_per_finished_run", "B", grown / count, "a run of three events of 200 bytes, indexes included")
    for name, before in figures[0].items():
        note = f"with {count} finished runs in the store, by without"
        bench.say(f"pg_{name}_with_many_finished", "", figures[1][name] / before, note)
    for name, took in lists.items():
        bench.say(f"pg_list_{name}", "ms", took, f"a page of 100 of {count} finished runs, the slowest of 10")


def _size(cluster: Cluster) -> int:
    return int(cluster.sql("select pg_database_size('finished')"))


async def _hot_paths(bench: Bench, client: aob.Client, name: str) -> dict[str, float]:
    starts, steps, alone = list[float](), list[float](), list[float]()
    count, runs = bench.sized(2_000), bench.sized(200)
    for k in range(bench.rounds + 1):
        began = perf_counter()
        await at_most(500, [lambda i=i, k=k: our_run(client, f"{name}-s{k}-{i}", 1) for i in range(count)])
        starts.append(count / (perf_counter() - began))
        began = perf_counter()
        await asyncio.gather(*(our_run(client, f"{name}-r{k}-{i}", _STEPS) for i in range(runs)))
        steps.append(runs * _STEPS / (perf_counter() - began))
        for i in range(50):
            began = perf_counter()
            await our_run(client, f"{name}-o{k}-{i}", 1)
            alone.append(perf_counter() - began)
    return {
        "starts_per_s": statistics.median(starts[1:]),
        "steps_per_s": statistics.median(steps[1:]),
        "start_to_result_p50": percentile(alone, 50),
    }


async def _lists(client: aob.Client) -> dict[str, float]:
    asked: dict[str, dict[str, str]] = {
        "all": {}, "by_status": {"status": "completed"}, "by_workflow": {"workflow": "seq"},
        "failed_of_none": {"status": "failed"},
    }  # fmt: skip
    found: dict[str, float] = {}
    for name, filters in asked.items():
        taken: list[float] = []
        for _ in range(10):
            began = perf_counter()
            await client.list(limit=100, **filters)
            taken.append((perf_counter() - began) * 1e3)
        found[name] = max(taken)
    return found


async def _serve(url: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with aob.connect(url) as client, client.serve(*WORKFLOWS):
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
