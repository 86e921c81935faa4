"""Damage in the write-ahead log, which SQLite takes for the log's end and passes over in silence."""

from __future__ import annotations

import os
import struct

import apsw

from aob.stores.sqlite.driver import Connection

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">4I")
_FRAME_HEADER = 24
_BIG_ENDIAN_SUMS = 0x377F0683
_LITTLE_ENDIAN_SUMS = 0x377F0682


def damage(connection: Connection, path: str) -> str | None:
    """What is wrong with the log beside `path`; None when nothing is seen.

    SQLite replays the log up to the first frame whose checksum is wrong. After a crash that is the transaction which
    was being written. Whole transactions of the same log behind it mean that it was committed once, and damaged since.
    A damaged last transaction cannot be told from one that never was committed.
    """
    while True:
        replayed = _replayed(connection)
        found = _damage(f"{path}-wal", replayed)
        # what another process commits in between is behind the replayed frames too
        if found is None or _replayed(connection) == replayed:
            return found


def _replayed(connection: Connection) -> int:
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return max(frames, 0)


def _damage(path: str, replayed: int) -> str | None:
    try:
        log = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        header = os.pread(log, _HEADER.size, 0)
        if len(header) < _HEADER.size or not any(header):
            return None
        if not _sum_is_right(header):
            return "the header of its write-ahead log is not what was written"
        _, _, page_size, _, *salts, _, _ = _HEADER.unpack(header)
        commits = _commits_behind(log, _FRAME_HEADER + page_size, replayed, salts)
    finally:
        os.close(log)
    if commits > 1:
        return f"its write-ahead log is broken after frame {replayed}, and {commits} transactions behind that are lost"
    return None


def _commits_behind(log: int, frame_size: int, replayed: int, salts: list[int]) -> int:
    """How many frames after the replayed ones belong to this log and end a transaction."""
    count, offset = 0, _HEADER.size + replayed * frame_size
    while len(frame := os.pread(log, _FRAME.size, offset)) == _FRAME.size:
        _, pages_after_commit, *salt = _FRAME.unpack(frame)
        count += pages_after_commit > 0 and salt == salts
        offset += frame_size
    return count


def _sum_is_right(header: bytes) -> bool:
    magic = struct.unpack_from(">I", header)[0]
    if magic not in (_BIG_ENDIAN_SUMS, _LITTLE_ENDIAN_SUMS):
        return False
    words = struct.unpack_from(">6I" if magic == _BIG_ENDIAN_SUMS else "<6I", header)
    one = two = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return (one, two) == struct.unpack_from(">2I", header, 24)
