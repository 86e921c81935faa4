"""`python -m bench [NAME …]`: measure, and print a table. See docs/explanation/performance.md.

Each measurement has a process and a directory of its own, so that nothing carries over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec

from bench import append, disk, fleet, gate, imports, latency, memory, postgres, processes, recovery, throughput, tried
from bench.measure import Bench, Figure

Measurement = Callable[[Bench], Awaitable[None]]

QUICK: dict[str, Measurement] = {
    "steps": throughput.steps_per_s,
    "starts": throughput.starts_per_s,
    "step_latency": latency.step_latency,
    "start_to_result": latency.start_to_result,
    "fan_out": latency.fan_out,
    "signals": latency.signal_roundtrip,
    "other_process": latency.other_process,
    "recovery": recovery.recovery,
    "long_history": recovery.long_history,
    "replay": recovery.replay,
    "active_runs": memory.active_runs,
    "sleeping_runs": memory.sleeping_runs,
    "idle": memory.idle,
    "slow_disk": disk.slow_disk,
    "imports": imports.imports,
    "append": append.append,
    "tried": tried.tried,
    "processes": processes.processes,
    "gate": gate.gate,
}
POSTGRES: dict[str, Measurement] = {
    "postgres": postgres.postgres,
    "fleet": fleet.fleet,
    "takeover": fleet.takeover,
    "many_open": fleet.many_open,
    "many_finished": fleet.many_finished,
}
SLOW: dict[str, Measurement] = {"checkpoint_loop": recovery.checkpoint_loop}
ALL = QUICK | POSTGRES | SLOW


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure speed on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; default: {', '.join(QUICK)}")
    parser.add_argument("--json", type=Path, help="append each figure to this file, as a line of JSON")
    parser.add_argument("--rounds", type=int, default=5, help="how often floor and engine take turns (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the loads; 0.1 for a quick look (default: 1)")
    parser.add_argument("--dir", type=Path, help="a directory on the disk to measure; default: the temporary one")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = set(given.names) - set(ALL)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    if given.here:
        bench = Bench(directory=given.dir, rounds=given.rounds, scale=given.scale, report=_say)
        asyncio.run(ALL[given.names[0]](bench))
        return
    measure_all(given.names or list(QUICK), given)


def measure_all(names: list[str], given: argparse.Namespace) -> None:
    """A process for each; a line for each figure as it comes."""
    print(f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, {os.cpu_count()} cores")
    print(f"{'metric':36} {'ours':>10} {'floor':>10} {'unit':5} {'ratio':>6} {'CPU':>6}  note")
    # modules are compiled once, as they are where aob is installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory(prefix="aob-bench-", dir=given.dir) as directory:
            command = [sys.executable, "-m", "bench", name, "--here", "--dir", directory]
            command += ["--rounds", str(given.rounds), "--scale", str(given.scale)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
                assert child.stdout is not None
                for line in child.stdout:
                    figure = msgspec.json.decode(line, type=Figure)
                    print(row(figure), flush=True)
                    if given.json is not None:
                        _keep(given.json, figure, given)
            failed = failed or child.returncode != 0
    sys.exit(failed)


def row(figure: Figure) -> str:
    """A figure as a line of the table."""
    numbers = [figure.ours, figure.floor]
    big, small = ("" if n is None else _short(n) for n in numbers)
    ratios = ["" if n is None else f"{n:.2f}" for n in (figure.ratio, figure.cpu_ratio)]
    return f"{figure.metric:36} {big:>10} {small:>10} {figure.unit:5} {ratios[0]:>6} {ratios[1]:>6}  {figure.note}"


def _short(number: float) -> str:
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) >= 1 else f"{number:.3f}"


def _keep(path: Path, figure: Figure, given: argparse.Namespace) -> None:
    line = msgspec.to_builtins(figure) | {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "rounds": given.rounds,
        "scale": given.scale,
    }
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def _say(figure: Figure) -> None:
    print(msgspec.json.encode(figure).decode(), flush=True)


if __name__ == "__main__":
    main()
