"""A Postgres server on two disks of its own, for tables and for the write-ahead log, each of which can be full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.postgres_cluster import Cluster

_ROOMY = "1g"
_TRIES = 200
_SETTINGS = ("wal_recycle=off", "min_wal_size=2MB", "max_wal_size=64MB")
"""Old segments of the log are not kept for later: a disk without space is noticed at the next one."""


class Disk:
    """A file system in memory, at a folder of its own. It is full when it is made as small as what is in it."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="aob-disk-"))
        if not _mount(self.folder, f"size={_ROOMY}"):
            self.folder.rmdir()
            raise PermissionError("no file system may be mounted here")

    def fill(self) -> None:
        """Leave no space for anything more.

        Raises:
            RuntimeError: what is in it grows faster than it can be filled.
        """
        for _ in range(_TRIES):
            now = os.statvfs(self.folder)
            used = (now.f_blocks - now.f_bfree) * now.f_frsize
            if now.f_bfree == 0 or _mount(self.folder, f"remount,size={used}"):
                return
        raise RuntimeError(f"{self.folder} could not be filled")

    def free(self) -> None:
        """Give the space back."""
        _mount(self.folder, f"remount,size={_ROOMY}")

    def remove(self) -> None:
        """Delete it with all that is in it."""
        subprocess.run(["umount", "--lazy", self.folder], check=False, capture_output=True)
        self.folder.rmdir()


def _mount(folder: Path, options: str) -> bool:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True)
    return done.returncode == 0


@cache
def may_mount() -> bool:
    """Whether this process may have disks of its own."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return False
    try:
        Disk().remove()
    except PermissionError:
        return False
    return True


class ClusterOnDisks(Cluster):
    """A server whose disks can be full.

    Args:
        options: as for `Cluster`.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.tables, self.wal = Disk(), Disk()
        for disk in (self.tables, self.wal):
            shutil.chown(disk.folder, "postgres", "postgres")
        initdb = ("-X", str(self.wal.folder), "--wal-segsize=1")
        super().__init__(options=(*_SETTINGS, *options), data=self.tables.folder, initdb=initdb)

    def panics(self) -> int:
        """How often it has ended because its log could not be written."""
        return self.log.read_text(errors="replace").count(" PANIC: ")

    def remove(self) -> None:
        """See `Cluster.remove`."""
        super().remove()
        for disk in (self.tables, self.wal):
            disk.remove()
