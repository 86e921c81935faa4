"""What it costs to start."""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

from bench.measure import Bench, times

_COMMANDS = {
    "import_aob": "import aob",
    "aob_version": "import sys; sys.argv = ['aob', '--version']; from aob.cli.main import main; main()",
}


async def imports(bench: Bench) -> None:
    """`import aob` and `aob --version`, against a Python that does nothing."""
    bare: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(2 * bench.rounds + 1):
        bare.append(_run("pass"))
        for name, code in _COMMANDS.items():
            taken[name].append(_run(code))
    low = statistics.median(bare[1:]) * 1e3
    for name, each in taken.items():
        times(
            bench, name, "ms", low, statistics.median(each[1:]) * 1e3, "a whole process; the floor is `python -c pass`"
        )


def _run(code: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - began
