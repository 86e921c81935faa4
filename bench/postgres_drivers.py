"""Which driver carries commits to Postgres: `python -m bench.postgres_drivers`. See docs/decisions/0012.

Each calls one function with a commit's events as arrays, one call in flight, fsync on; straight, and through PgBouncer
in transaction mode where it is installed. Needs psycopg beside what aob needs (`pip install 'psycopg[binary]'`).
"""

from __future__ import annotations

import asyncio
import statistics
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from time import perf_counter, process_time
from typing import Any

import asyncpg
import psycopg
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

from tests.postgres_cluster import Cluster, Pooler, pgbouncer_program

ROUNDS = 5
FOUND: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
SIZES = {200: 250, 1: 1000}
DATA = b'{"ok":true,"value":"' + b"x" * 178 + b'"}'
SCHEMA = """
drop table if exists event cascade; drop function if exists append_text;
create table event (run bigint, position bigint, chain bigint, seq int, partition int, epoch int, version smallint,
                    kind text, data bytea);
create unique index on event (run, seq);
create unique index on event (partition, position);
create function append(bigint[], bigint[], bigint[], int[], int[], int[], smallint[], text[], bytea[])
returns setof event language plpgsql as $$ begin
    insert into event select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9);
end $$;
create function append_text(text, text, text, text, text, text, text, text, text, text, bytea)
returns setof event language plpgsql as $$ begin
    insert into event select a, b, c, d, e, f, g, h, substring($11 from start for length)
        from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::int[], $7::smallint[],
                    $8::text[], $9::int[], $10::int[]) as u (a, b, c, d, e, f, g, h, start, length);
end $$;
"""
TYPES = ("bigint", "bigint", "bigint", "int", "int", "int", "smallint", "text", "bytea")
OIDS = {"bigint": (20, 1016, "q", 8), "int": (23, 1007, "i", 4), "smallint": (21, 1005, "h", 2),
        "text": (25, 1009, "", 0), "bytea": (17, 1001, "", 0)}  # fmt: skip

Batch = tuple[list[Any], ...]
Send = Callable[[Batch], Awaitable[Any]]


class Packed:
    """An array in Postgres' binary form, made in one go."""

    def __init__(self, values: list[Any], type: str) -> None:
        self.type = type
        element, _, code, size = OIDS[type]
        head = struct.pack(">iiiii", 1, 0, element, len(values), 1)
        if code:
            flat: list[int] = [size] * (2 * len(values))
            flat[1::2] = values
            self.bytes = head + struct.pack(">" + f"i{code}" * len(values), *flat)
        else:
            parts = [v.encode() if type == "text" else v for v in values]
            self.bytes = head + b"".join([x for part in parts for x in (len(part).to_bytes(4, "big"), part)])


def packed_types() -> dict[str, type[Packed]]:
    return {name: type(f"Packed{name}", (Packed,), {}) for name in OIDS}


PACKED = packed_types()


def dumper(array: int) -> type[Dumper]:
    class PackedDumper(Dumper):
        format = Format.BINARY
        oid = array

        def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
            super().__init__(cls, context)

        def dump(self, obj: Packed) -> bytes:
            return obj.bytes

    return PackedDumper


class Load:
    """Batches of 200 runs' events."""

    def __init__(self) -> None:
        self.seqs, self.positions, self.number = [0] * 200, [0] * 256, 0

    def batch(self, size: int) -> Batch:
        columns: Batch = tuple([] for _ in TYPES)
        for _ in range(size):
            run = self.number % 200
            self.number += 1
            self.seqs[run] += 1
            self.positions[run] += 1
            row = (
                (1 << 60) + run, self.positions[run], 3_000_000_000, self.seqs[run], run, 1, 1, "step_completed", DATA,
            )  # fmt: skip
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        return columns


async def with_asyncpg(url: str, pooled: bool) -> tuple[Send, Callable[[], Awaitable[None]]]:
    connection: Any = await asyncpg.connect(url, statement_cache_size=0 if pooled else 100)
    sql = f"select * from append({', '.join(f'${n}' for n in range(1, 10))})"

    async def send(batch: Batch) -> Any:
        if not pooled:
            return await connection.fetch(sql, *batch)
        async with connection.transaction():
            return await connection.fetch(sql, *batch)

    return send, connection.close


async def with_asyncpg_text(url: str, pooled: bool) -> tuple[Send, Callable[[], Awaitable[None]]]:
    connection: Any = await asyncpg.connect(url, statement_cache_size=0 if pooled else 100)
    sql = f"select * from append_text({', '.join(f'${n}' for n in range(1, 12))})"

    async def send(batch: Batch) -> Any:
        *plain, datas = batch
        lengths = list(map(len, datas))
        starts = list(accumulate(lengths, initial=1))[:-1]
        texts = ["{" + ",".join(map(str, column)) + "}" for column in (*plain, starts, lengths)]
        if not pooled:
            return await connection.fetch(sql, *texts, b"".join(datas))
        async with connection.transaction():
            return await connection.fetch(sql, *texts, b"".join(datas))

    return send, connection.close


async def with_psycopg(url: str, pooled: bool, packed: bool) -> tuple[Send, Callable[[], Awaitable[None]]]:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None if pooled else 0)
    for name, kind in PACKED.items():
        connection.adapters.register_dumper(kind, dumper(OIDS[name][1]))
    casts = [f"%b::{name}[]" for name in TYPES]
    sql = f"select * from append({', '.join(casts)})"
    cursor = connection.cursor(binary=True)
    kinds = [PACKED[name] for name in TYPES]

    async def send(batch: Batch) -> Any:
        values = [kind(c, name) for kind, c, name in zip(kinds, batch, TYPES, strict=True)] if packed else batch
        await cursor.execute(sql, values)
        return await cursor.fetchall()

    return send, connection.close


async def measure(name: str, opened: tuple[Send, Callable[[], Awaitable[None]]], load: Load) -> None:
    send, close = opened
    for size, count in SIZES.items():
        for _ in range(10):
            await send(load.batch(size))
        batches = [load.batch(size) for _ in range(count)]
        times: list[float] = []
        cpu, start = process_time(), perf_counter()
        for batch in batches:
            before = perf_counter()
            await send(batch)
            times.append(perf_counter() - before)
        took, cpu = perf_counter() - start, process_time() - cpu
        found = (size * count / took, statistics.median(times) * 1e3, cpu / count * 1e6)
        FOUND.setdefault((name, size), []).append(found)
    await close()


def tell() -> None:
    """Print the best round of each: whoever else uses the machine only ever makes it slower."""
    for (name, size), rounds in FOUND.items():
        rate, ms, cpu = max(r[0] for r in rounds), min(r[1] for r in rounds), min(r[2] for r in rounds)
        print(f"{name:36} {size:4} a commit {rate:9,.0f} rows/s  p50 {ms:5.2f} ms  client {cpu:5.0f} µs a commit")


@contextmanager
def pooler(cluster: Cluster) -> Iterator[str | None]:
    """PgBouncer in transaction mode before the cluster."""
    if pgbouncer_program() is None:
        print("PgBouncer is not installed (Debian: apt install pgbouncer)", file=sys.stderr)
        yield None
        return
    standing = Pooler(cluster)
    standing.start()
    try:
        yield standing.url()
    finally:
        standing.stop()


async def main() -> None:
    cluster = Cluster()
    cluster.start()
    try:
        with pooler(cluster) as pooled:
            for _ in range(ROUNDS):
                cluster.sql(SCHEMA)
                load, url = Load(), cluster.url()
                await measure("asyncpg", await with_asyncpg(url, False), load)
                await measure("asyncpg, arrays as text", await with_asyncpg_text(url, False), load)
                await measure("psycopg, lists", await with_psycopg(url, False, False), load)
                await measure("psycopg, arrays packed by us", await with_psycopg(url, False, True), load)
                if pooled is None:
                    continue
                await measure("PgBouncer, asyncpg in begin…commit", await with_asyncpg(pooled, True), load)
                await measure("PgBouncer, asyncpg, text, in begin…", await with_asyncpg_text(pooled, True), load)
                await measure("PgBouncer, psycopg, packed", await with_psycopg(pooled, True, True), load)
        tell()
    finally:
        cluster.remove()


if __name__ == "__main__":
    asyncio.run(main())
