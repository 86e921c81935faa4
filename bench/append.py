"""What the SQLite store adds to the least that keeps the same promise: `python -m bench.append`.

The floor is one `executemany` into an event table with a unique index, in one synced transaction. Both write the same
number of bytes for each event, to the same disk, in turns, so that the ratio means something on any machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.chain import chain_after
from aob.stores.rows import Append, EventRecord, Lease, RunRow
from aob.stores.sqlite import SqliteStore, open_store

RUNS = 200
DATA = b'{"ok":true,"value":"' + b"x" * 178 + b'"}'
KIND = "step_completed"

Step = Callable[[], Awaitable[int]]


class Floor:
    """Raw SQLite."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        for sql in (
            "pragma page_size=16384",
            "pragma journal_mode=wal",
            "pragma synchronous=full",
            "create table event (position integer primary key, run int, seq int, data blob)",
            "create unique index event_run on event (run, seq)",
        ):
            self.db.execute(sql)
        self.seqs = dict.fromkeys(range(RUNS), 0)

    def batch(self, size: int) -> list[tuple[int, int, bytes]]:
        rows: list[tuple[int, int, bytes]] = []
        for n in range(size):
            run = n % RUNS
            self.seqs[run] += 1
            rows.append((run, self.seqs[run], DATA))
        return rows

    def commit(self, rows: list[tuple[int, int, bytes]]) -> None:
        self.db.execute("begin")
        self.db.executemany("insert into event (run, seq, data) values (?, ?, ?)", rows)
        self.db.execute("commit")


class Ours:
    """The store."""

    def __init__(self, store: SqliteStore, lease: Lease) -> None:
        self.store = store
        self.lease = lease
        self.runs = [a_run(f"r{n}") for n in range(RUNS)]
        self.ends = [[0, 0] for _ in range(RUNS)]
        self.started = 0

    def batch(self, size: int) -> list[EventRecord]:
        rows: list[EventRecord] = []
        for n in range(size):
            run, end = self.runs[n % RUNS], self.ends[n % RUNS]
            end[0] += 1
            end[1] = chain_after(end[1], KIND, DATA)
            rows.append((run, end[0], KIND, 1, end[1], DATA))
        return rows

    async def commit(self, rows: list[EventRecord]) -> None:
        await self.store.append(Append(partition=0, epoch=self.lease.epoch, events=rows))

    def new_runs(self, size: int) -> list[RunRow]:
        self.started += size
        return [a_run(f"s{self.started - n}") for n in range(size)]


def a_run(run_id: str) -> RunRow:
    return RunRow(tenant="default", run_id=run_id, workflow="support", status="running", created=1, updated=1)


async def appends(floor: Floor, ours: Ours, size: int, rounds: int) -> None:
    """Batches of one size, in turns."""
    least: list[float] = []
    taken: list[float] = []
    for _ in range(rounds):
        rows = floor.batch(size)
        began = perf_counter()
        floor.commit(rows)
        least.append(perf_counter() - began)
        records = ours.batch(size)
        began = perf_counter()
        await ours.commit(records)
        taken.append(perf_counter() - began)
    report(f"append {size} events", least, taken, size)


async def starts(floor: Floor, ours: Ours, size: int, rounds: int) -> None:
    """Starting runs with their first event, then ending them with their last; the floor writes the two events."""
    least: list[float] = []
    taken: list[float] = []
    for _ in range(rounds):
        rows = floor.batch(size)
        began = perf_counter()
        floor.commit(rows)
        floor.commit(floor.batch(size))
        least.append(perf_counter() - began)
        runs = ours.new_runs(size)
        first = [(run, 1, "run_started", 1, 0, DATA) for run in runs]
        last = [(run, 2, "run_completed", 1, 0, DATA) for run in runs]
        began = perf_counter()
        await ours.store.append(Append(partition=0, epoch=ours.lease.epoch, starts=runs, events=[*first]))
        for run in runs:
            run.status, run.ended = "completed", 2
        await ours.store.append(Append(partition=0, epoch=ours.lease.epoch, summaries=runs, events=[*last]))
        taken.append(perf_counter() - began)
    report(f"start and end {size} runs", least, taken, size)


def report(what: str, least: list[float], taken: list[float], size: int) -> None:
    floor, ours = statistics.median(least) / size * 1e6, statistics.median(taken) / size * 1e6
    print(f"{what:26} floor {floor:7.2f} µs each   ours {ours:7.2f} µs each   ratio {ours / floor:4.2f}")


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        store = await open_store(f"sqlite:///{directory}/aob.db", clock=SystemClock(), process=SystemProcess())
        lease = await store.acquire(0, "bench", 3600.0)
        assert lease is not None
        floor, ours = Floor(Path(directory) / "floor.db"), Ours(store, lease)
        await store.append(Append(partition=0, epoch=lease.epoch, starts=ours.runs))
        for size, rounds in ((1, 2000), (20, 500), (200, 200), (1000, 40)):
            await appends(floor, ours, size, rounds)
        for size, rounds in ((1, 500), (200, 50)):
            await starts(floor, ours, size, rounds)
        floor.db.close()
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
