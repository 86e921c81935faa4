"""Reading everything to see that it is what was written."""

from __future__ import annotations

from collections.abc import Iterator

from aob.errors import StoreCorrupt
from aob.stores.chain import is_content
from aob.stores.sqlite.reads import Reads

_PAGE = 1000


def problems(reads: Reads) -> Iterator[str | None]:
    """What is wrong with a store, a line each; None now and then, so that the caller can do something else."""
    for (found,) in reads.rows("pragma integrity_check(100)"):
        if found != "ok":
            yield str(found)
    yield None
    last = 0
    while keys := reads.rows("select key from run where key > ? order by key limit ?", (last, _PAGE)):
        for (key,) in keys:
            yield from _history_problems(reads, key)
        last = keys[-1][0]
    for (digest,) in reads.rows("select digest from blob"):
        ((data,),) = reads.rows("select data from blob where digest = ?", (digest,))
        if not is_content(digest, data):
            yield f"the payload {digest} is not what was written"
        yield None


def _history_problems(reads: Reads, key: int) -> Iterator[str | None]:
    after = 0
    try:
        while found := reads.events(key, after, _PAGE, None):
            after = found[-1].seq
            yield None
    except StoreCorrupt as e:
        yield e.message
    yield None
