"""Hearing of other processes' news: one connection of each process listens, and a slow look is the safety net.

News is a line: what it is, who tells it, and partitions where it matters. `m`: messages came; `f`: a partition became
free; `c`: something was committed; `w`: somebody waits for commits, so tell of them for a while. Owners tell of commits
only then, and apart from the commits: telling takes a lock that all commits of a database would queue for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from contextlib import suppress
from functools import partial
from typing import Any

from aob.errors import OperatorError
from aob.stores.changes import Changes
from aob.stores.postgres import driver
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.driver import Connection

_SAY_AGAIN = 10.0
_TELL_FOR = 30.0
_ALIVE = 30.0
_RECONNECT = 0.5


class Watch:
    """Wakes whoever waits.

    Args:
        tag: this process's name in news.
        held: the partitions whose messages are for this process.
    """

    def __init__(self, connections: Connections, tag: str, held: Container[int]) -> None:
        self._connections = connections
        self._channel = connections.address.channel
        self._tag = tag
        self._held = held
        self._all = Changes()
        self._messages = Changes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._outgoing: dict[str, None] = {}
        self._telling = False
        self._wanted = connections.options.listen == "on" or (
            connections.options.listen == "auto" and not connections.proxied
        )
        self._started = False
        self.listening = False
        self._look_at = 0.0
        self._said_at = -_SAY_AGAIN
        self._tell_until = 0.0
        self._closed = False

    def news(self, what: str) -> str:
        """The beginning of a line of news."""
        return f"{what} {self._tag} "

    async def wait(self, timeout: float, commits: bool = True) -> None:
        """See `Store.wait_changed`."""
        self._connections.refuse_closed()
        self._start()
        changes = self._all if commits else self._messages
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not changes.news() and not self._closed:
            now = loop.time()
            if commits and now - self._said_at >= _SAY_AGAIN:
                self._said_at = now
                self._tell(self.news("w"))
            if now >= self._look_at:
                options = self._connections.options
                first, self._look_at = self._look_at == 0.0, now + (
                    options.safety_poll if self.listening else options.poll
                )  # fmt: skip
                if not first:
                    self._ring()
                continue
            if now >= until:
                break
            await changes.next(min(until, self._look_at) - now)
        changes.heard()

    def sent(self, partitions: set[int] | None = None) -> None:
        """This process sent messages; those of other owners are to be told (None: they have been)."""
        if partitions is None:
            self._ring()
        elif others := [str(partition) for partition in partitions if partition not in self._held]:
            self._tell(self.news("m") + ",".join(others))

    def committed(self) -> None:
        """This process committed something."""
        if not self.listening or asyncio.get_running_loop().time() < self._tell_until:
            self._tell(self.news("c"))

    async def close(self) -> None:
        """Listen no more, and wake the waiters."""
        self._closed = True
        self._ring()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ring(self) -> None:
        self._all.add()
        self._messages.add()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            if self._wanted:
                self._spawn(self._listen())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self, line: str) -> None:
        self._outgoing[line] = None
        if not self._telling and not self._closed:
            self._telling = True
            self._spawn(self._tell_all())

    async def _tell_all(self) -> None:
        """One statement at a time; what comes meanwhile goes with the next."""
        try:
            while self._outgoing and not self._closed:
                lines, self._outgoing = list(self._outgoing), {}
                with suppress(OperatorError, *driver.ERRORS):
                    await self._connections.once(
                        "select count(pg_notify($1, line)) from unnest($2::text[]) as line", self._channel, lines
                    )
        finally:
            self._telling = False

    # --- hearing ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while not self._closed:
            connection: Connection | None = None
            try:
                connection = await self._connections.connect()
                gone = asyncio.Event()
                connection.add_termination_listener(partial(_set, gone))
                await connection.add_listener(self._channel, self._heard)
                self.listening = True
                self._ring()
                while not gone.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_ALIVE):
                            await gone.wait()
                    if not gone.is_set():
                        await connection.execute("select 1", timeout=_ALIVE)
            except driver.ERRORS:
                pass  # meanwhile waiters look for themselves
            finally:
                self.listening = False
                if connection is not None:
                    connection.terminate()
            self._look_at = 0.1
            await asyncio.sleep(_RECONNECT)

    def _heard(self, _connection: object, _pid: int, _channel: str, line: str) -> None:
        what, _, rest = line.partition(" ")
        tag, _, about = rest.partition(" ")
        if tag == self._tag:
            return
        if what == "w":
            self._tell_until = asyncio.get_running_loop().time() + _TELL_FOR
            self._tell(self.news("c"))
        elif what == "c" or (what == "m" and not any(int(p) in self._held for p in about.split(",") if p)):
            self._all.add()
        else:
            self._ring()


def _set(event: asyncio.Event, _connection: object) -> None:
    event.set()
