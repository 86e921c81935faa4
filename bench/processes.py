"""Would several worker processes, each with an SQLite file of its own, do more than one? `python -m bench.processes` is
one of them."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

import aob
from bench.measure import Bench, engine
from bench.throughput import our_run

_STEPS = 50


async def processes(bench: Bench) -> None:
    """1 process on one file, and 2 and 4 on a file each, in turns: steps a second of all together."""
    counts = (1, 2, 4)
    runs = bench.sized(200)
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    for k in range(bench.rounds):
        for count in counts:
            taken[count].append(_together(count, bench.directory, f"{count}-{k}", runs))
    for count in counts:
        rate = statistics.median(rate for rate, _ in taken[count])
        busy = statistics.median(busy for _, busy in taken[count])
        note = f"each with a file of its own, {runs} runs at once in each, {_STEPS} steps a run; {busy:.2f} cores busy"
        bench.say(f"steps_per_s_of_{count}_processes", "1/s", rate, note)


def _together(count: int, directory: Path, name: str, runs: int) -> tuple[float, float]:
    """Steps a second, and processor seconds a second, from the common beginning to the last one's end."""
    paths = [directory / f"{name}-{n}.db" for n in range(count)]
    command, pipe = [sys.executable, "-m", "bench.processes", str(runs)], subprocess.PIPE
    children = [subprocess.Popen([*command, str(path)], stdin=pipe, stdout=pipe, text=True) for path in paths]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    began = perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [json.loads(child.communicate()[0]) for child in children]
    wall = max(ended for ended, _ in said) - began
    return count * runs * _STEPS / wall, sum(cpu for _, cpu in said) / wall


async def _work(runs: int, path: Path) -> None:
    async with engine(path) as client:
        await _round(client, "warm", max(runs // 10, 1))
        print("ready", flush=True)
        sys.stdin.readline()
        cpu = process_time()
        await _round(client, "r", runs)
        print(json.dumps([perf_counter(), process_time() - cpu]), flush=True)


async def _round(client: aob.Client, name: str, runs: int) -> None:
    await asyncio.gather(*(our_run(client, f"{name}{i}", _STEPS) for i in range(runs)))


if __name__ == "__main__":
    asyncio.run(_work(int(sys.argv[1]), Path(sys.argv[2])))
