"""Hours of the same load at a gentle pace of faults: figures every minute, and at the end what has grown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import mean, quantiles
from time import monotonic
from typing import NamedTuple

import asyncpg

from tests.chaos.campaign import KINDS
from tests.chaos.scenes import Play, Size
from tests.postgres_cluster import Cluster

PACE = 20.0
"""Seconds between two faults of a strand."""
SIZE = Size(
    workers=3, lease_ttl=2.0, kinds=KINDS, spared=1,
    settings={"AOB_RETENTION_DAYS": f"{180 / 86_400}", "AOB_SWEEP_EVERY": "20"},
)  # fmt: skip
"""What has ended goes after three minutes, so that the store has no reason to grow; one worker lives all along."""
_MINUTE = 60.0
_WARM = 3
"""Minutes in which everything grows: retention has nothing to delete yet, caches fill."""
_PAGE = 4096
_FIGURES = """
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
    (select sum(pg_total_relation_size(c.oid))::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relkind = 'r'),
    (select count(*) from {schema}.inbox)
"""


class Figures(NamedTuple):
    """Of one minute. Memory (`rss`, bytes) and open files are of the worker that has most; `wal` and `store` bytes."""

    at: float
    finished: int
    effects: int
    rss: int
    files: int
    wal: int
    store: int
    inbox: int
    late: list[float]


class Allowed(NamedTuple):
    """How much more the last quarter may have than the first."""

    what: str
    of: Callable[[Figures], float]
    factor: float
    beside: float


ALLOWED = (
    Allowed("memory of a worker (bytes)", lambda f: f.rss, 1.15, 16e6),
    Allowed("open files of a worker", lambda f: f.files, 1.2, 8),
    Allowed("messages in the inbox", lambda f: f.inbox, 1.5, 100),
    Allowed("store (bytes)", lambda f: f.store, 1.5, 64e6),
)


class Record:
    """All minutes so far."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.minutes: list[Figures] = []

    async def keep(self, play: Play) -> None:
        """Look every minute, and print a line."""
        before = await self._look(play)
        while True:
            await asyncio.sleep(_MINUTE)
            now = await self._look(play)
            self.minutes.append(now)
            print(_line(len(self.minutes), before, now), flush=True)
            before = now

    async def _look(self, play: Play) -> Figures:
        late = list(play.fleet.late)
        play.fleet.late.clear()
        wal, store, inbox = await self._asked(play)
        each = [_of_process(member.pid) for member in play.fleet.members]
        rss, files = max(rss for rss, _ in each), max(files for _, files in each)
        return Figures(monotonic(), play.load.finished, play.load.effects, rss, files, wal, store, inbox, late)

    async def _asked(self, play: Play) -> tuple[int, int, int]:
        """What the database says; it may be away just now."""
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await play.scene.connect()
                try:
                    name = play.scene.schema.strip('"')
                    row = await connection.fetchrow(_FIGURES.format(schema=play.scene.schema), name)
                    assert row is not None
                    return row[0], row[1], row[2]
                finally:
                    connection.terminate()
            await asyncio.sleep(0.5)

    def grown(self) -> list[str]:
        """What the last quarter has more of than the first, warming up left out."""
        warm = self.minutes[_WARM:]
        quarter = len(warm) // 4
        if not quarter:
            print("too short to say what grew")
            return []
        found: list[str] = []
        for allowed in ALLOWED:
            first, last = mean(map(allowed.of, warm[:quarter])), mean(map(allowed.of, warm[-quarter:]))
            verdict = f"{allowed.what}: {first:,.0f} in the first quarter, {last:,.0f} in the last"
            print(verdict)
            if last > first * allowed.factor + allowed.beside:
                found.append(f"grew: {verdict}")
        return found


def _of_process(pid: int) -> tuple[int, int]:
    """Its memory and how many files it has open; nothing when it has just been killed."""
    here = Path("/proc", str(pid))
    try:
        return int((here / "statm").read_text().split()[1]) * _PAGE, len(list((here / "fd").iterdir()))
    except (OSError, IndexError):
        return 0, 0


def _line(minute: int, before: Figures, now: Figures) -> str:
    seconds = now.at - before.at
    late = quantiles(now.late, n=100) if len(now.late) > 1 else [0.0] * 99
    return (
        f"{minute:4} min: {(now.finished - before.finished) / seconds:.1f} runs/s, "
        f"{(now.effects - before.effects) / seconds:.0f} steps/s, RSS {now.rss / 2**20:.0f} MiB, {now.files} files, "
        f"log +{(now.wal - before.wal) / 2**20:.1f} MiB, store {now.store / 2**20:.1f} MiB, inbox {now.inbox}, "
        f"timers late by {1e3 * late[49]:.0f} ms (p50), {1e3 * late[98]:.0f} ms (p99)"
    )
