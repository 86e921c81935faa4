"""Damage in the write-ahead log, which SQLite takes for the log's end and passes over in silence."""

from __future__ import annotations

import os
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager

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
    page_size = int(connection.pragma("page_size"))
    while True:
        replayed = _replayed(connection)
        found = _damage(path, replayed, page_size)
        # what another process commits in between is behind the replayed frames too
        if found is None or _replayed(connection) == replayed:
            return found


def _replayed(connection: Connection) -> int:
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return max(frames, 0)


def _damage(path: str, replayed: int, page_size: int) -> str | None:
    try:
        with _reading(f"{path}-wal") as log:
            header = os.pread(log, _HEADER.size, 0)
            if len(header) < _HEADER.size:
                return None
            if not _sum_is_right(header):
                if _folded_in(log, path, page_size):
                    return None
                return "the header of its write-ahead log is not what was written"
            salts = _HEADER.unpack(header)[4:6]
            frames = _frames(log, page_size, replayed)
            commits = sum(after > 0 and salt == salts for _, after, salt in frames)
    except FileNotFoundError:
        return None
    if commits > 1:
        return f"its write-ahead log is broken after frame {replayed}, and {commits} transactions behind that are lost"
    return None


def _frames(log: int, page_size: int, start: int = 0) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Of each frame: its page, the file's size in pages when it ends a transaction, the salts of its log."""
    offset = _HEADER.size + start * (_FRAME_HEADER + page_size)
    while len(frame := os.pread(log, _FRAME.size, offset)) == _FRAME.size:
        page, after_commit, *salts = _FRAME.unpack(frame)
        yield page, after_commit, (salts[0], salts[1])
        offset += _FRAME_HEADER + page_size


def _folded_in(log: int, path: str, page_size: int) -> bool:
    """Whether the file holds all that the log committed, as it does when a crash tore the header of the next log."""
    latest: dict[int, int] = {}
    waiting: dict[int, int] = {}
    size, first = 0, None
    for number, (page, after_commit, salts) in enumerate(_frames(log, page_size)):
        first = first or salts
        if salts != first:
            break
        waiting[page] = number
        if after_commit:
            latest.update(waiting)
            waiting.clear()
            size = after_commit
    with _reading(path) as file:
        return all(
            os.pread(file, page_size, (page - 1) * page_size)
            == os.pread(log, page_size, _HEADER.size + number * (_FRAME_HEADER + page_size) + _FRAME_HEADER)
            for page, number in latest.items()
            if page <= size
        )


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


@contextmanager
def _reading(path: str) -> Generator[int, None, None]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)
