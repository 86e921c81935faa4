"""The gate before a deploy: how many open runs a second it replays, and what it holds in memory."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from time import perf_counter

import aob
from bench.measure import Bench, at_most, engine, until
from bench.work import TICKS, answered, wait

_STEPS = 10
_ROOT = Path(__file__).resolve().parent.parent


async def gate(bench: Bench) -> None:
    """Open runs of 10 steps each, in one process and in one for each core; and very many runs of none."""
    runs, many = bench.sized(5_000), bench.sized(100_000)
    path = bench.directory / "aob.db"
    async with engine(path) as client:
        await at_most(500, [partial(_begin, client, f"r{i}") for i in range(runs)])
        await until(lambda: len(TICKS) >= runs * _STEPS)
    for jobs in sorted({1, os.cpu_count() or 1}):
        took, kib = await _replay(path, jobs)
        note = (
            f"{runs} open runs of {_STEPS} steps, Python's start included; {kib / 1024:.0f} MiB in the largest process"
        )
        bench.say(f"gate_{jobs}_processes", "1/s", runs / took, note)
    path = bench.directory / "many.db"
    async with engine(path) as client:
        names = [f"w{i}" for i in range(many)]
        await client.start_many(wait, names, run_ids=names)
    took, kib = await _replay(path, os.cpu_count() or 1)
    note = f"{many} open runs without a step, a process for each core; {kib / 1024:.0f} MiB in the largest process"
    bench.say("gate_many", "1/s", many / took, note)


async def _begin(client: aob.Client, name: str) -> None:
    await client.start(answered, name, _STEPS, run_id=name)


async def _replay(path: Path, jobs: int) -> tuple[float, int]:
    """Seconds, and KiB of the largest process."""
    command = ["-c", "from aob.cli.main import main; main()", "--store", f"sqlite:///{path}", "replay", "--all-open"]
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--code", "bench.work", "--jobs", str(jobs), cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    said = process.communicate()
    largest = asyncio.ensure_future(_largest(process.pid))
    out = (await said)[0]
    took = perf_counter() - began
    assert process.returncode == 0, out
    largest.cancel()
    return took, _PEAK.pop(process.pid, 0)


_PEAK: dict[int, int] = {}


async def _largest(pid: int) -> None:
    """Look at the peak memory of a process and its children, until cancelled (Linux)."""
    while True:
        _look(pid)
        await asyncio.sleep(0.1)


def _look(pid: int) -> None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (str(pid), *children):
        status = Path(f"/proc/{each}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
        _PEAK[pid] = max(peak, _PEAK.get(pid, 0))
