"""The outbox: a file of JSON lines in which every key stands exactly once, whatever is killed while it is written.

An activity may run again after a crash that came between its effect and the record of it. So a delivery names a key
that is the same on every attempt, and four things together make one line of many attempts:

- One writer at a time, in all processes: an exclusive lock on the file, which ends with its holder.
- Under the lock a writer first reads what others have appended, and writes nothing when its key is there already.
- A line without its newline is what a killed writer left. It was never acknowledged, so the next writer cuts it off.
- Nobody is answered before `fsync` has returned, not even one who found the key there: its writer may have died before.

Lines that are no record (a power cut may leave zeros where unsynced pages were) are passed over; they were never
acknowledged either, since a sync covers the whole file.
"""

import fcntl
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

CHUNK_BYTES = 1 << 20


class OutboxBroken(Exception):
    """The disk refused to sync. What is on it is unknown until the process has been restarted."""


class Outbox:
    """An append-only file of records, each under a key of its own.

    Safe to use from several threads and several processes at once. Needs a local file system (POSIX locks).

    Args:
        path: the file; it is created, in a folder that must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: set[str] = set()
        self._read_to = 0
        self._file_id: tuple[int, int] | None = None
        self._folder_synced = False
        self._broken = False

    def deliver(self, key: str, record: Mapping[str, Any]) -> bool:
        """Write `record` under `key`, unless there is one already; when this returns it is on the disk.

        Returns:
            True when this call wrote it, False when it was there.

        Raises:
            OutboxBroken: when the disk could not sync, now or before.
        """
        line = json.dumps({"key": key, **record}, ensure_ascii=False).encode() + b"\n"
        with self._opened() as file:
            with _locked(file):
                self._catch_up(file)
                if self._broken:
                    raise OutboxBroken(f"{self.path} could not be synced before: restart the process")
                fresh = key not in self._keys
                if fresh:
                    _write_all(file, line)
                    self._keys.add(key)
                    self._read_to += len(line)
            # Outside the lock, so that several writers share one sync.
            self._sync(file)
        return fresh

    @contextmanager
    def _opened(self) -> Generator[int]:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not self._folder_synced:
                # Not only by whoever created the file: that one may have died before it synced its name.
                _sync_folder(self.path.parent)
                self._folder_synced = True
            yield file
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> None:
        """Learn the keys that others have appended, and cut off a line that nobody finished."""
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) != self._file_id or status.st_size < self._read_to:
            self._file_id, self._keys, self._read_to = (status.st_dev, status.st_ino), set(), 0
        unfinished = b""
        position = self._read_to
        while chunk := os.pread(file, CHUNK_BYTES, position):
            position += len(chunk)
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            self._keys.update(record["key"] for record in map(_record, lines) if record)
            self._read_to = position - len(unfinished)
        if unfinished:
            os.ftruncate(file, self._read_to)

    def _sync(self, file: int) -> None:
        try:
            os.fsync(file)
        except OSError as error:
            # The kernel reports a lost page once; a second fsync would succeed and mean nothing.
            self._broken = True
            raise OutboxBroken(f"{self.path} could not be synced: {error}") from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """All finished records of the file at `path`, in order; none when there is no file."""
    if not path.exists():
        return []
    *lines, _unfinished = path.read_bytes().split(b"\n")
    return [record for record in map(_record, lines) if record]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    record = cast("dict[str, Any]", value)
    return record if isinstance(record.get("key"), str) else None


@contextmanager
def _locked(file: int) -> Generator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _write_all(file: int, line: bytes) -> None:
    while line:
        line = line[os.write(file, line) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
