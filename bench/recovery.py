"""What a restart costs: after a kill, after a long history, after a long loop."""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, cast

import apsw
import msgspec

from aob.kernel import events as ev
from aob.kernel.machine import Machine
from aob.stores.rows import EventRow
from bench.floor import Floor
from bench.measure import Bench, both, engine, in_turns, rate, times, until
from bench.throughput import floor_run, our_run
from bench.work import TICKS, floor_seq, seq

_ROOT = Path(__file__).resolve().parent.parent


class Child:
    """A worker process that can be killed."""

    def __init__(self, *args: object) -> None:
        self._args = [str(arg) for arg in args]
        self._process: asyncio.subprocess.Process
        self.began = 0.0

    async def start(self) -> Child:
        self.began = monotonic()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.serving", *self._args, stdout=asyncio.subprocess.PIPE, cwd=_ROOT
        )
        return self

    async def heard(self, word: str) -> float:
        """When the child said this word: seconds of the host's monotonic clock."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said, _, at = line.decode().partition(" ")
            if said == word:
                return float(at)
        raise RuntimeError(f"the worker ended before it said {word!r}")

    async def end(self, number: signal.Signals) -> None:
        """Send a signal and wait."""
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.wait()


async def recovery(bench: Bench) -> None:
    """100 runs of 20 steps of 50 ms: the worker is killed half-way and restarted at once."""
    runs, steps, seconds = bench.sized(100), 20, 0.05
    lost: list[float] = []
    ready: list[float] = []
    repeated = wrongly = 0
    for k in range(bench.rounds):
        path, log = bench.directory / f"aob{k}.db", bench.directory / f"work{k}.log"
        child = await Child("paced", path, runs, steps, seconds, log).start()
        await child.heard("ready")
        half = runs * steps // 2
        await until(lambda log=log, half=half: _lines(log) >= half)
        await child.end(signal.SIGKILL)
        durable = _durable(path)
        child = await Child("go-on", path, runs).start()
        ready.append(await child.heard("ready") - child.began)
        done = await child.heard("done")
        await child.end(signal.SIGTERM)
        left = max(steps - sum(name == run for name, _ in durable) for run in _names(runs))
        lost.append(done - child.began - left * seconds)
        again = {step for step, ran in _counts(log).items() if ran > 1}
        repeated += len(again)
        wrongly += len(again & durable)
        assert len(_counts(log)) == runs * steps
    note = (
        f"kill -9 half-way through {runs} runs of {steps} steps of 50 ms; from the restart (Python's included) to all "
        f"results, less the time of the steps left; {repeated / bench.rounds:.0f} of {runs * steps} attempts were made "
        f"again, {wrongly} of them with a durable result"
    )
    bench.say("recovery", "s", statistics.median(lost), note)
    bench.say("recovery_ready", "s", statistics.median(ready), "from the restart to a worker that owns the store")


def _names(runs: int) -> list[str]:
    return [f"p{i}" for i in range(runs)]


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _counts(log: Path) -> Counter[tuple[str, str]]:
    lines = (line.split() for line in log.read_text().splitlines())
    return Counter((run, i) for run, i in lines)


def _durable(path: Path) -> set[tuple[str, str]]:
    """(run, i) of the steps whose results a killed worker has left."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("select data from event where kind = 'step_completed'").fetchall()
    db.close()
    results = [cast("ev.StepCompleted", ev.decode_event("step_completed", 1, data)).result for (data,) in rows]
    values: list[dict[str, Any]] = [msgspec.json.decode(result) for result in results]
    return {(value["run"], str(value["i"])) for value in values}


async def long_history(bench: Bench) -> None:
    """One run of 50,000 steps: the first 500 against the last 500, and a restart at its end."""
    steps = bench.sized(50_000)
    floor = Floor(bench.directory / "floor.db")
    await floor_run(floor, "long", steps)
    least = _first_and_last()
    floor.close()
    async with engine(bench.directory / "aob.db") as client:
        await our_run(client, "long", steps)
        ours = _first_and_last()
    times(bench, "long_history_first_500", "ms", least[0], ours[0], f"of one run of {steps} steps")
    times(bench, "long_history_last_500", "ms", least[1], ours[1], f"of one run of {steps} steps")
    child = await Child("long", bench.directory / "killed.db", steps).start()
    await child.heard("nearly")
    await child.end(signal.SIGKILL)
    child = await Child("go-on-long", bench.directory / "killed.db").start()
    up, ready, first = await child.heard("up"), await child.heard("ready"), await child.heard("step")
    await child.end(signal.SIGKILL)
    note = f"killed after {steps - 200} of {steps} steps"
    bench.say("long_history_replay", "s", ready - up, f"{note}: opening the store, taking it over, replaying the run")
    bench.say(
        "long_history_restart",
        "s",
        first - child.began,
        f"{note}: from the restart (Python's included) to the next new step",
    )


def _first_and_last() -> tuple[float, float]:
    taken = (TICKS[499] - TICKS[0]) * 1e3, (TICKS[-1] - TICKS[-500]) * 1e3
    TICKS.clear()
    return taken


async def replay(bench: Bench) -> None:
    """Recorded events applied again: by the kernel alone, and read from the store with their checksums."""
    steps = bench.sized(20_000)
    async with both(bench) as (floor, client):
        run = await floor.start(floor_seq, "r", steps)
        await run.ended
        handle = await client.start(seq, "r", steps, run_id="r")
        await handle.result()
        row = await client.store.get_run("default", "r")
        assert row is not None
        stored: list[EventRow] = []
        while page := await client.store.events(row.key, len(stored), 2_000):
            stored += page

        async def least(k: int) -> None:
            assert floor.replay(run.key, floor_seq, "r", steps) == steps

        async def from_store(k: int) -> None:
            machine = Machine(seq)
            events, _ = await client.history.for_replay(row)
            machine.replay(events)
            assert machine.mismatch is None
            machine.close()

        turns = await in_turns(bench.rounds, least, from_store)
        rate(bench, "replay_from_store", turns, len(stored), "events of one run: read, checked, decoded, applied")
        decoded = [(ev.decode_event(r.kind, r.version, r.data), r.seq) for r in stored]
        taken: list[float] = []
        for _ in range(bench.rounds):
            machine = Machine(seq)
            began = perf_counter()
            machine.replay(decoded)
            taken.append(perf_counter() - began)
            machine.close()
        bench.say("replay_kernel", "1/s", len(decoded) / statistics.median(taken), "events applied by the kernel alone")


async def checkpoint_loop(bench: Bench) -> None:
    """A loop of a million iterations, each a step and a checkpoint: its memory, its pace, its recovery."""
    passes = bench.sized(1_000_000)
    path = bench.directory / "aob.db"
    child = await Child("loop", path, passes).start()
    began = await child.heard("ready")
    memory: list[float] = []
    at: list[float] = []
    for _ in range(10):
        at.append(await child.heard("tenth"))
        memory.append(await child.heard("kib"))
    await child.end(signal.SIGKILL)
    paces = [passes / 10 / (after - before) for before, after in pairwise([began, *at])]
    note = f"{passes} passes of a step and a checkpoint"
    ends = f"the first tenth {paces[0]:.0f}, the last {paces[-1]:.0f}"
    bench.say("loop_passes_per_s", "1/s", statistics.median(paces), f"{note}; {ends}")
    bench.say("loop_memory", "MiB", memory[-1] / 1024, f"resident memory after {note}")
    bench.say("loop_memory_growth", "MiB", (memory[-1] - memory[4]) / 1024, "from the middle of the loop to its end")
    child = await Child("go-on-loop", path, passes).start()
    first = await child.heard("step")
    await child.end(signal.SIGTERM)
    seconds = first - child.began
    bench.say("loop_recovery", "s", seconds, f"killed after {note}: from the restart to the next step")
    bench.say("loop_store", "MiB", path.stat().st_size / 2**20, note)
