"""Reading everything to see that it is what was written."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aob.errors import StoreCorrupt
from aob.stores.chain import is_content
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.reads import Reads

_PAGE = 1000
_DENSE = """
select partition, count(*), min(position), max(position) from aob.event group by partition
having count(*) > max(position) - min(position) + 1
"""


async def problems(connections: Connections, reads: Reads) -> AsyncGenerator[str]:
    """What is wrong with a store, a line each."""
    for partition, count, low, high in await reads.rows(reads.sql(_DENSE)):
        yield f"partition {partition} has {count} events at the positions {low} to {high}"
    last = 0
    keys = reads.sql("select key from aob.run where key > $1 order by key limit $2")
    while found := await reads.rows(keys, last, _PAGE):
        for (key,) in found:
            async for problem in _history_problems(reads, key):
                yield problem
        last = found[-1][0]
    digest = ""
    digests = reads.sql("select digest, data from aob.blob where digest > $1 order by digest limit 20")
    while payloads := await reads.rows(digests, digest):
        for digest, data in payloads:
            if not is_content(digest, data):
                yield f"the payload {digest} is not what was written"


async def _history_problems(reads: Reads, key: int) -> AsyncGenerator[str]:
    after = 0
    try:
        while found := await reads.events(key, after, _PAGE, None):
            after = found[-1].seq
    except StoreCorrupt as e:
        yield e.message
