"""Hearing of other processes' commits: a bell where they can ring it, a look now and then where they cannot."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from pathlib import Path

from aob.process import Doorbell, remove_stray_bells
from aob.stores.changes import Changes
from aob.stores.sqlite.reads import Reads

_LONGEST_PATH = 86
"""Bytes; with a bell's own name this is what a socket's address may have everywhere."""
_ELSEWHERE = "aob-bells-"
_WITHOUT_BELL = 0.05


def bell_directory(path: str) -> Path:
    """Where the processes that use a file have their bells: beside it, unless sockets' short paths forbid."""
    beside = f"{path}-bells"
    if len(beside.encode()) <= _LONGEST_PATH:
        return Path(beside)
    return Path(tempfile.gettempdir()) / f"{_ELSEWHERE}{hashlib.sha256(path.encode()).hexdigest()[:16]}"


class Watch:
    """Wakes whoever waits for changes.

    Several tasks may wait; each hears of every change. The file itself is looked at now and then only: it cannot tell
    this process's own commits from those of others, which the bells can.
    """

    def __init__(self, path: str, reads: Reads, poll: float) -> None:
        self._reads = reads
        self._poll = poll
        self._bells = bell_directory(path)
        self._lent = self._bells != Path(f"{path}-bells")
        self._bell = Doorbell(self._bells, self._lent)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._version = reads.version()
        self._look_at = 0.0
        self._changes = Changes()
        self._closed = False

    def ring(self) -> None:
        """Tell the other processes that there is something new."""
        self._bell.ring()

    def notify(self) -> None:
        """Wake this process's own waiters."""
        self._changes.add()

    async def wait(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        self._reads.refuse_closed()
        self._hang()
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not self._changes.news() and not self._closed:
            now = loop.time()
            if now >= self._look_at:
                self._look_at = now + self._poll
                self._look()
                continue
            if now >= until:
                break
            await self._changes.next(min(until, self._look_at) - now)
        self._changes.heard()

    def close(self) -> None:
        """Take the bell down and wake the waiters."""
        self._closed = True
        self.notify()
        if self._fd >= 0 and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._bell.close()

    def _look(self) -> None:
        version = self._reads.version()
        if version != self._version:
            self._version = version
            self._changes.add()

    def _hang(self) -> None:
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        if self._lent:
            remove_stray_bells(self._bells.parent, _ELSEWHERE)
        fd = self._bell.hang()
        if fd is not None:
            with contextlib.suppress(NotImplementedError):
                self._loop.add_reader(fd, self._rung)
                self._fd = fd
        if self._fd < 0:
            self._poll = min(self._poll, _WITHOUT_BELL)

    def _rung(self) -> None:
        self._bell.silence()
        self._version = self._reads.version()
        self.notify()
