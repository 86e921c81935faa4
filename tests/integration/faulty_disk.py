"""A disk that fails as it is told to, and remembers what a power cut would leave: an SQLite VFS over the real one."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

_numbers = itertools.count()


@dataclass
class Image:
    """One file as the disk has it: what was synced, and the writes since, in order."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def apply(self, writes: list[tuple[int, bytes]]) -> bytearray:
        content = bytearray(self.synced)
        for offset, data in writes:
            if len(content) < offset + len(data):
                content.extend(bytes(offset + len(data) - len(content)))
            content[offset : offset + len(data)] = data
        return content


class FaultyDisk(apsw.VFS):
    """Open a store with `vfs=disk.name`; set the hooks; `unplug` to see what a power cut leaves."""

    def __init__(self) -> None:
        self.name = f"faulty-{next(_numbers)}"
        super().__init__(self.name, "")
        self.on_write: Callable[[str, bytes], None] = lambda path, data: None
        self.on_sync: Callable[[str], None] = lambda path: None
        self.images: dict[str, Image] = {}
        self.remembers = False

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return FaultyFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.images.pop(filename, None)

    def unplug(self, directory: Path, rng: random.Random) -> None:
        """Write into `directory` what the disk may hold if the power goes now.

        Of the writes since each file's last sync any may be there or not, in any order; the last may be torn.
        """
        for path, image in self.images.items():
            kept = [write for write in image.pending if rng.random() < 0.5]
            rng.shuffle(kept)
            if kept and rng.random() < 0.5:
                offset, data = kept[-1]
                kept[-1] = (offset, data[: rng.randrange(len(data))])
            (directory / Path(path).name).write_bytes(image.apply(kept))


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)
        if disk.remembers:
            disk.images.setdefault(self.path, Image())

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.on_write(self.path, data)
        super().xWrite(data, offset)
        if image := self.disk.images.get(self.path):
            image.pending.append((offset, bytes(data)))

    def xSync(self, flags: int) -> None:
        self.disk.on_sync(self.path)
        super().xSync(flags)
        if image := self.disk.images.get(self.path):
            image.synced = image.apply(image.pending)
            image.pending = []

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        if image := self.disk.images.get(self.path):
            image.synced = image.apply(image.pending)[:size]
            image.pending = []


def io_error(extended: int, message: str) -> apsw.IOError:
    """What a VFS raises to fail with this extended code."""
    error = apsw.IOError(message)
    error.extendedresult = extended
    error.result = extended & 0xFF
    return error
