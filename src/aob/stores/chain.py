"""What makes damage show: a checksum chain over a run's events, and the content hash of a large payload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from zlib import crc32

from aob.errors import StoreCorrupt
from aob.stores.rows import EventRow

_SHA256 = "sha256:"
_kinds: dict[str, int] = {}


def chain_after(previous: int, kind: str, data: bytes) -> int:
    """The chain of an event that follows one whose chain is `previous` (0 before the first)."""
    salt = _kinds.get(kind)
    if salt is None:
        salt = _kinds[kind] = crc32(kind.encode())
    return crc32(data, previous ^ salt)


def check_chain(rows: Iterable[EventRow], seq: int, chain: int, where: str) -> None:
    """See that `rows` follow an event with this `seq` and `chain` without a gap or a change.

    Raises:
        StoreCorrupt: they do not.
    """
    for row in rows:
        seq += 1
        chain = chain_after(chain, row.kind, row.data)
        if row.seq != seq or row.chain != chain:
            what = f"event {seq} is missing" if row.seq != seq else f"event {seq} is not what was written"
            raise StoreCorrupt(
                f"{where} is damaged: {what} in the run with key {row.run}; "
                "stop every process that uses it, keep the file for inquiry, and restore a backup"
            )


def is_content(digest: str, data: bytes) -> bool:
    """Whether the data is what its content hash says; a digest in another form says nothing."""
    hexadecimal = digest.removeprefix(_SHA256)
    return len(hexadecimal) != 64 or hashlib.sha256(data).hexdigest() == hexadecimal
