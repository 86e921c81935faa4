"""An exporter that writes events to a file, a line of JSON each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from aob.engine.exporter import BATCH, BATCH_BYTES, LogEvent
from aob.process import FileLock, in_thread, pause

_BEGIN = b'{"id":"'
_BLOCK = 1 << 20
_LOCK_WAIT = 0.005
_LOCK_TRIES = 2_000
_encode = msgspec.json.Encoder().encode


class JsonLines:
    """Appends every event to a file. A batch counts as taken when it is synced to the disk.

    What is delivered again after a crash is found at the end of the file, and left out; half a line is cut off. Several
    processes of one host may write to one file: events of one partition stand in the order of their positions.

    Args:
        path: the file; it is made when it is not there.
        name: the exporter's name. Another name begins anew with all events that are kept.
    """

    def __init__(self, path: str | Path, name: str = "jsonl") -> None:
        self.name = name
        self.path = Path(path)
        self._left: tuple[int, int] | None = None
        self._last: set[bytes] = set()

    async def export(self, events: Sequence[LogEvent]) -> None:
        """See `aob.Exporter`.

        Raises:
            OSError: the file cannot be written.
        """
        await in_thread(lambda: self._export(events))

    def _export(self, events: Sequence[LogEvent]) -> None:
        lock = FileLock(str(self.path))
        for _ in range(_LOCK_TRIES):
            if lock.take():
                break
            pause(_LOCK_WAIT)
        else:
            raise BlockingIOError(f"another process holds {self.path}")
        try:
            with self.path.open("r+b", buffering=0) as file:
                self._append(file, [_encode(event) for event in events])
        finally:
            lock.drop()

    def _append(self, file: BinaryIO, lines: list[bytes]) -> None:
        about = os.fstat(file.fileno())
        if self._left != (about.st_ino, about.st_size):  # a new file, or somebody else wrote to it, or it was cut short
            self._last = _whole_lines(file)
        self._left = None  # until this is done nobody knows where the file ends
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            _sync_directory(self.path)
        data = b"".join(line + b"\n" for line in lines if line not in self._last)
        try:
            _write(file, data)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
        self._left, self._last = (about.st_ino, end + len(data)), set(lines)


def _whole_lines(file: BinaryIO) -> set[bytes]:
    """Cut half a line off the file's end. The last lines: all that may be delivered again."""
    file.seek(0)
    begin = _read(file, len(_BEGIN))
    if not _BEGIN.startswith(begin):
        raise FileExistsError(f"{file.name} is no file of exported events: give another path")
    end = file.seek(0, os.SEEK_END)
    place, tail = end, b""
    while place > 0 and (b"\n" not in tail or (tail.count(b"\n") <= BATCH and len(tail) < 4 * BATCH_BYTES)):
        place = max(place - _BLOCK, 0)
        file.seek(place)
        tail = _read(file, end - place - len(tail)) + tail
    whole = tail.rfind(b"\n") + 1
    if place + whole < end:
        file.truncate(place + whole)
    # it may be that the process that wrote these died before they were synced
    os.fsync(file.fileno())
    return set(tail[:whole].split(b"\n")[1 if place else 0 : -1])


def _read(file: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (more := file.read(size - len(found))):
        found += more
    return found


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
