"""What the SQLite store adds to the least that keeps the same promise.

The floor is one `executemany` into an event table with a unique index, in one synced transaction. Both write the same
number of bytes for each event, to the same disk, in turns, so that the ratio means something on any machine.
"""

from __future__ import annotations

import sqlite3
import statistics
from pathlib import Path
from time import perf_counter

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.chain import chain_after
from aob.stores.rows import Append, EventRecord, Lease, RunRow
from aob.stores.sqlite import SqliteStore, open_store
from bench.measure import Bench, times

RUNS = 200
DATA = b'{"ok":true,"value":"' + b"x" * 178 + b'"}'
KIND = "step_completed"


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
        await self.store.append(Append(epochs={0: self.lease.epoch}, events=rows))

    def new_runs(self, size: int) -> list[RunRow]:
        self.started += size
        return [a_run(f"s{self.started - n}") for n in range(size)]


def a_run(run_id: str) -> RunRow:
    return RunRow(tenant="default", run_id=run_id, workflow="support", status="running", created=1, updated=1)


async def appends(bench: Bench, floor: Floor, ours: Ours, size: int, rounds: int) -> None:
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
    _say(bench, f"append_{size}", least, taken, size, f"an event, {size} in a commit")


async def starts(bench: Bench, floor: Floor, ours: Ours, size: int, rounds: int) -> None:
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
        await ours.store.append(Append(epochs={0: ours.lease.epoch}, starts=runs, events=[*first]))
        for run in runs:
            run.status, run.ended = "completed", 2
        await ours.store.append(Append(epochs={0: ours.lease.epoch}, summaries=runs, events=[*last]))
        taken.append(perf_counter() - began)
    _say(bench, f"append_runs_{size}", least, taken, size, f"a run's row, first and last event, {size} in two commits")


def _say(bench: Bench, metric: str, least: list[float], taken: list[float], size: int, note: str) -> None:
    low, high = (statistics.median(side) / size * 1e6 for side in (least, taken))
    times(bench, metric, "µs", low, high, note)


async def append(bench: Bench) -> None:
    """The store's append, without an engine."""
    store = await open_store(f"sqlite:///{bench.directory}/aob.db", clock=SystemClock(), process=SystemProcess())
    lease = await store.acquire(0, "bench", 3600.0)
    assert lease is not None
    floor, ours = Floor(bench.directory / "floor.db"), Ours(store, lease)
    await store.append(Append(epochs={0: lease.epoch}, starts=ours.runs))
    for size, rounds in ((1, 2000), (20, 500), (200, 200), (1000, 40)):
        await appends(bench, floor, ours, size, bench.sized(rounds))
    for size, rounds in ((1, 500), (200, 50)):
        await starts(bench, floor, ours, size, bench.sized(rounds))
    floor.db.close()
    await store.close()
