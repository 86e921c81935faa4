"""The choices that the engine's speed rests on, each against the other way. Here `floor` is the way not taken."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw
import msgspec

from bench.measure import Bench, times
from bench.work import work

_RUNS = 200
_APPENDED = (
    "create table event (position integer primary key, run int, seq int, data blob)",
    "create unique index event_run on event (run, seq)",
)
_CLUSTERED = ("create table event (run int, seq int, data blob, primary key (run, seq)) without rowid",)
_INSERT = "insert into event (run, seq, data) values (?, ?, ?)"
_DATA = json.dumps(work("run", 1)).encode()


class File:
    """A SQLite file and what is written into it."""

    def __init__(self, path: Path, schema: tuple[str, ...] = _APPENDED, page: int = 16384, connect: Any = None) -> None:
        self.db: Any = connect(path) if connect else apsw.Connection(str(path))
        for sql in (f"pragma page_size = {page}", "pragma journal_mode = wal", "pragma synchronous = full", *schema):
            self.db.execute(sql)
        self._seq = 0

    def rows(self, size: int) -> list[tuple[int, int, bytes]]:
        rows: list[tuple[int, int, bytes]] = []
        for n in range(size):
            self._seq += n % _RUNS == 0
            rows.append((n % _RUNS, self._seq, _DATA))
        return rows

    def commit(self, rows: list[tuple[int, int, bytes]]) -> None:
        self.db.execute("begin")
        self.db.executemany(_INSERT, rows)
        self.db.execute("commit")


async def tried(bench: Bench) -> None:
    """Layout, page size, driver, threads, tasks, JSON."""
    for size in (200, 1_000):
        clustered = _two(bench, f"clustered{size}", schema=_CLUSTERED)
        await _files(bench, f"tried_append_only_{size}", *clustered, size, "clustered on (run, seq)")
        small = _two(bench, f"small{size}", page=4096)
        await _files(bench, f"tried_pages_of_16_kib_{size}", *small, size, "pages of 4 KiB")
    other = _two(bench, "driver", connect=lambda path: sqlite3.connect(path, isolation_level=None))
    await _files(bench, "tried_apsw_200", *other, 200, "Python's own sqlite3")
    await _threads(bench, File(bench.directory / "threads.db"))
    await _tasks(bench)
    _codecs(bench)


def _two(bench: Bench, name: str, **other_way: Any) -> tuple[File, File]:
    return File(bench.directory / f"{name}-ours.db"), File(bench.directory / f"{name}-other.db", **other_way)


async def _files(bench: Bench, metric: str, ours: File, other: File, size: int, way: str) -> None:
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(bench.sized(100)):
        for file, into in zip((other, ours), taken, strict=True):
            rows = file.rows(size)
            began = perf_counter()
            file.commit(rows)
            into.append((perf_counter() - began) / size * 1e6)
    low, high = (statistics.median(side) for side in taken)
    times(bench, metric, "µs", low, high, f"a row of 200 bytes, {size} in a commit; the other way: {way}")


async def _threads(bench: Bench, file: File) -> None:
    loop = asyncio.get_running_loop()
    taken: tuple[list[float], list[float]] = [], []
    # one that may be used from another thread: commits never overlap
    with ThreadPoolExecutor(1) as pool:
        for _ in range(bench.sized(300)):
            rows = file.rows(_RUNS)
            began = perf_counter()
            await loop.run_in_executor(pool, file.commit, rows)
            taken[0].append((perf_counter() - began) * 1e6)
            rows = file.rows(_RUNS)
            began = perf_counter()
            file.commit(rows)
            taken[1].append((perf_counter() - began) * 1e6)
    low, high = (statistics.median(side) for side in taken)
    times(bench, "tried_commit_in_the_loop", "µs", low, high, f"a commit of {_RUNS} rows; the other way: in a thread")


async def _tasks(bench: Bench) -> None:
    count = bench.sized(20_000)

    async def attempt() -> None: ...

    async def with_timeout() -> None:
        async with asyncio.timeout(10):
            await attempt()

    async def a_task_each() -> None:
        await asyncio.gather(*(asyncio.create_task(with_timeout()) for _ in range(count)))

    async def runners() -> None:
        queue = deque(range(count))

        async def runner() -> None:
            while queue:
                queue.popleft()
                await attempt()

        await asyncio.gather(*(runner() for _ in range(10)))

    taken: tuple[list[float], list[float]] = [], []
    for _ in range(bench.rounds):
        for fn, into in zip((a_task_each, runners), taken, strict=True):
            began = perf_counter()
            await fn()
            into.append((perf_counter() - began) / count * 1e6)
    low, high = (statistics.median(side) for side in taken)
    note = "an attempt that does nothing; the other way: a Task and an asyncio.timeout for each"
    times(bench, "tried_runners", "µs", low, high, note)


def _codecs(bench: Bench) -> None:
    value = work("run", 1)
    encoder, decoder = msgspec.json.Encoder(order="sorted"), msgspec.json.Decoder()
    note = "a step's result of 200 bytes; the other way: Python's own json"
    low, high = _each(bench, lambda: json.dumps(value)), _each(bench, lambda: encoder.encode(value))
    times(bench, "tried_msgspec_encode", "µs", low, high, note)
    low, high = _each(bench, lambda: json.loads(_DATA)), _each(bench, lambda: decoder.decode(_DATA))
    times(bench, "tried_msgspec_decode", "µs", low, high, note)


def _each(bench: Bench, fn: Callable[[], object]) -> float:
    count = bench.sized(20_000)
    taken: list[float] = []
    for _ in range(bench.rounds):
        began = perf_counter()
        for _ in range(count):
            fn()
        taken.append((perf_counter() - began) / count * 1e6)
    return statistics.median(taken)
