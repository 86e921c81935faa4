"""What it costs to start."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from time import perf_counter

from bench.measure import Bench, engine, times
from bench.throughput import our_run

_AOB = "import sys; from aob.cli.main import run; sys.exit(run(sys.argv[1:]))"


async def imports(bench: Bench) -> None:
    """`import aob`, `aob --version` and `aob run list`, against a Python that does nothing."""
    path = bench.directory / "aob.db"
    async with engine(path) as client:
        await asyncio.gather(*(our_run(client, f"r{i}", 1) for i in range(100)))
    commands: dict[str, tuple[str, ...]] = {
        "import_aob": ("import aob",),
        "aob_version": (_AOB, "--version"),
        "aob_run_list": (_AOB, "run", "list", "--store", f"sqlite:///{path}"),
    }
    bare: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(2 * bench.rounds + 1):
        bare.append(_run("pass"))
        for name, command in commands.items():
            taken[name].append(_run(*command))
    low = statistics.median(bare[1:]) * 1e3
    for name, each in taken.items():
        times(
            bench, name, "ms", low, statistics.median(each[1:]) * 1e3, "a whole process; the floor is `python -c pass`"
        )


def _run(*command: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", *command], check=True, capture_output=True)
    return perf_counter() - began
