"""A Postgres server for measurements, the processor time it takes, and the least that a client of it must do."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import asyncpg

from bench.measure import Bench
from tests.postgres_cluster import Cluster

_TICK = os.sysconf("SC_CLK_TCK")
_DATA = b'{"ok":true,"value":"' + b"x" * 178 + b'"}'
_ROWS = 200
_SCHEMA = """
create table floor (run bigint, seq int, data bytea);
create unique index on floor (run, seq);
"""


@contextmanager
def server(bench: Bench) -> Generator[Cluster]:
    """A stock server, fsync on, on the disk that is measured."""
    bench.directory.chmod(0o711)  # the server's user finds its folder in there
    cluster = Cluster(parent=bench.directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def server_seconds(cluster: Cluster) -> float:
    """Processor time of all the server's processes so far, of those that have ended too."""
    children = Path(f"/proc/{cluster.pid}/task/{cluster.pid}/children").read_text().split()
    return sum(_seconds(pid, ended=pid == str(cluster.pid)) for pid in (str(cluster.pid), *children))


def process_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    return _seconds(str(pid), ended=False)


def _seconds(pid: str, ended: bool) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(int(fields[n]) for n in ((11, 12, 13, 14) if ended else (11, 12))) / _TICK


async def floor_rows_per_s(cluster: Cluster, batches: int) -> float:
    """Rows a second of a bare client: one insert of 200 rows after the other, each a transaction of its own."""
    connection = await asyncpg.connect(cluster.fresh("floor"))
    try:
        await connection.execute(_SCHEMA)
        insert = await connection.prepare(
            "insert into floor select * from unnest($1::bigint[], $2::int[], $3::bytea[])"
        )
        began = perf_counter()
        for batch in range(batches):
            await insert.fetch(list(range(_ROWS)), [batch] * _ROWS, [_DATA] * _ROWS)
        return batches * _ROWS / (perf_counter() - began)
    finally:
        await connection.close()
