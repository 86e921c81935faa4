"""What makes damage show: a checksum chain over a run's events, and the content hash of a large payload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from zlib import crc32

import msgspec

from aob.errors import StoreCorrupt
from aob.kernel.events import Gap, encode_event, time_of
from aob.stores.rows import EventRow

GAP = Gap.KIND
_SHA256 = "sha256:"
_decode_gap = msgspec.json.Decoder(Gap).decode
_kinds: dict[str, int] = {}


def chain_after(previous: int, kind: str, data: bytes) -> int:
    """The chain of an event that follows one whose chain is `previous` (0 before the first)."""
    salt = _kinds.get(kind)
    if salt is None:
        salt = _kinds[kind] = crc32(kind.encode())
    return crc32(data, previous ^ salt)


def gap_data(first: int, last: int, chain: int, data: bytes) -> bytes:
    """What stands in the place of deleted events.

    Args:
        first, last: `seq` of the first and the last of them.
        chain, data: of the last.

    Raises:
        UnknownEvent: the last is no stored event.
    """
    gap = Gap(time_of(data), first, last, chain)
    gap.check = _check_of(gap)
    return encode_event(gap)


def _check_of(gap: Gap) -> int:
    return chain_after(gap.chain, GAP, b"%d %d %d" % (gap.at, gap.first, gap.last))


def _gap_after(seq: int, data: bytes) -> Gap | None:
    """The gap that this is, if it is what was written, and covers the event that follows `seq`."""
    try:
        gap = _decode_gap(data)
    except msgspec.MsgspecError:
        return None
    return gap if gap.first <= seq + 1 <= gap.last and gap.check == _check_of(gap) else None


def follow(seq: int, chain: int, kind: str, data: bytes) -> tuple[int, int]:
    """`seq` and chain of the event that comes after one with these.

    Raises:
        StoreCorrupt: it is a gap that cannot stand here.
    """
    if kind == GAP:
        gap = _gap_after(seq, data)
        if gap is None:
            raise StoreCorrupt(f"the gap behind event {seq} is not what was written")
        return gap.last, gap.chain
    return seq + 1, chain_after(chain, kind, data)


def check_chain(rows: Iterable[EventRow], seq: int, chain: int, where: str) -> None:
    """See that `rows` follow an event with this `seq` and `chain`: nothing is changed, and what is missing is said to
    be missing.

    Raises:
        StoreCorrupt: it is not so.
    """
    for row in rows:
        if row.kind == GAP and (gap := _gap_after(seq, row.data)) is not None:
            seq, chain = gap.last, gap.chain
        else:
            seq, chain = seq + 1, chain_after(chain, row.kind, row.data)
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
