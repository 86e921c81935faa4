"""Hearing of other processes' commits: a bell where they can ring it, a look now and then where they cannot."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from pathlib import Path

from aob.process import Doorbell
from aob.stores.sqlite.reads import Reads

_LONGEST_PATH = 86
"""Bytes; with a bell's own name this is what a socket's address may have everywhere."""
_WITHOUT_BELL = 0.05


def bell_directory(path: str) -> Path:
    """Where the processes that use a file have their bells: beside it, unless sockets' short paths forbid."""
    beside = f"{path}-bells"
    if len(beside.encode()) <= _LONGEST_PATH:
        return Path(beside)
    return Path(tempfile.gettempdir()) / f"aob-bells-{hashlib.sha256(path.encode()).hexdigest()[:16]}"


class Watch:
    """Wakes whoever waits for changes."""

    def __init__(self, path: str, reads: Reads, poll: float) -> None:
        self._reads = reads
        self._poll = poll
        self._bell = Doorbell(bell_directory(path))
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._version = reads.version()
        self._closed = False

    def ring(self) -> None:
        """Tell the other processes that there is something new."""
        self._bell.ring()

    def notify(self) -> None:
        """Wake this process's own waiters."""
        self._changed.set()

    async def wait(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        self._reads.refuse_closed()
        poll = self._hang()
        left = timeout
        while not self._closed and not self._moved():
            try:
                async with asyncio.timeout(min(poll, left)):
                    await self._changed.wait()
            except TimeoutError:
                left -= poll
                if left <= 0:
                    return
        self._changed.clear()

    def close(self) -> None:
        """Take the bell down and wake the waiters."""
        self._closed = True
        self._changed.set()
        if self._fd >= 0 and self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_reader(self._fd)
        self._bell.close()

    def _moved(self) -> bool:
        if self._changed.is_set():
            return True
        version = self._reads.version()
        moved, self._version = version != self._version, version
        return moved

    def _hang(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            fd = self._bell.hang()
            if fd is not None:
                with contextlib.suppress(NotImplementedError):
                    self._loop.add_reader(fd, self._rung)
                    self._fd = fd
        return self._poll if self._fd >= 0 else min(self._poll, _WITHOUT_BELL)

    def _rung(self) -> None:
        self._bell.silence()
        self._changed.set()
