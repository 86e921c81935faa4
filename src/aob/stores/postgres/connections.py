"""A few connections to the database, lent to one statement at a time; and trying again what a lost one left open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from aob.clock import Clock
from aob.errors import LeaseLost, OperatorError, StoreUnavailable
from aob.process import Process
from aob.stores.postgres import driver, faults
from aob.stores.postgres.driver import Connection, Rows
from aob.stores.postgres.options import Address

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_CONNECT_TIMEOUT = 10.0
_LEAST = 1.0


class Connections:
    """A pool. Statements go through `rows`, which tries them until they are done or the patience is over."""

    def __init__(self, address: Address, clock: Clock, process: Process) -> None:
        self.address = address
        self.name = address.name
        self.options = address.options
        self.proxied = False
        self._clock = clock
        self._process = process
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._places = asyncio.Semaphore(address.options.pool)
        self._prepared = address.options.prepared != "off"
        self.closed = False

    async def open(self) -> None:
        """Connect once, to see that it can be done and what stands between. A server that is starting is waited for.

        Raises:
            StoreUnavailable: it cannot.
        """
        give_up = self._clock.monotonic() + self.options.patience
        while True:
            try:
                connection = await self._first()
                break
            except (*driver.ERRORS, ValueError) as e:
                if not faults.is_starting(e) or self._clock.monotonic() >= give_up:
                    raise faults.translated(e, self.name) from e
            await self._clock.sleep(_LONGEST_PAUSE)
        self._idle.append(connection)

    async def _first(self) -> Connection:
        connection = await self.connect()
        # a proxy shows a number of its own for the server process, and may give each transaction another one
        answer = await connection.execute(f"select 1 where pg_backend_pid() = {connection.get_server_pid()}")
        self.proxied = answer != "SELECT 1"
        if self.proxied and self.options.prepared == "auto":
            self._prepared = False
            await connection.close()
            connection = await self.connect()
        return connection

    async def connect(self, within: float = _CONNECT_TIMEOUT) -> Connection:
        """A connection of one's own."""
        timeout = min(_CONNECT_TIMEOUT, within, self.options.timeout)
        return await driver.connect(self.address.dsn, timeout, 200 if self._prepared else 0)

    async def close(self) -> None:
        """Close all; statements that are under way fail."""
        self.closed = True
        for connection in [*self._idle, *self._lent]:
            connection.terminate()
        self._idle.clear()

    def refuse_closed(self) -> None:
        """See that the store is open.

        Raises:
            StoreUnavailable: it was closed.
        """
        if self.closed:
            raise StoreUnavailable(f"{self.name} was closed")

    async def once(self, sql: str, *values: Any, until: float | None = None) -> Rows:
        """The rows of a statement that is sent once. Errors are the driver's own.

        Args:
            until: when nobody cares for the answer any more, by the monotonic clock.
        """
        self.refuse_closed()
        async with self._places:
            timeout = self.options.timeout
            if until is not None:
                timeout = min(timeout, max(until - self._clock.monotonic(), _LEAST))
            connection = await self._take(timeout)
            self._lent.add(connection)
            try:
                fetch = connection.fetch if self._prepared else partial(_in_transaction, connection)
                rows = await fetch(sql, *values, timeout=timeout)
            except driver.DatabaseError as e:
                self._give_back(connection, faults.is_lost(e))
                raise
            except BaseException:  # also when the caller gives up: nobody waits for the answer any more
                self._give_back(connection, True)
                raise
            self._give_back(connection, False)
            return rows

    async def rows(self, sql: str, *values: Any) -> Rows:
        """The rows of a statement that may be sent again when its outcome is unknown."""
        return await self.trying(lambda _: self.once(sql, *values))

    async def trying(
        self, work: Callable[[bool], Awaitable[T]], leased_until: Callable[[], float] | None = None,
        patience: float | None = None,
    ) -> T:  # fmt: skip
        """Do `work(again)` until it is done; `again`: an earlier try may have been done, or not.

        Args:
            leased_until: when to give up while the database is away, by the monotonic clock; default: after the
                patience.
            patience: seconds; default: the store's.

        Raises:
            LeaseLost: it was away until the lease was over.
            OperatorError: what it failed with in the end.
        """
        give_up = self._clock.monotonic() + (self.options.patience if patience is None else patience)
        tries, pause, again = 0, _FIRST_PAUSE, False
        while True:
            try:
                return await work(again)
            except OperatorError:
                raise
            except driver.ERRORS as e:
                self.refuse_closed()
                tries += 1
                lost = faults.is_lost(e)
                again = again or lost
                if lost or (again and faults.passes(e)):  # to say that nothing was written would be a guess
                    open_end = faults.unreachable(self.name, e) if lost else faults.undecided(self.name, e)
                    if leased_until is None and self._clock.monotonic() >= give_up:
                        raise open_end from e
                    if leased_until is not None and self._clock.monotonic() >= leased_until():
                        raise LeaseLost(f"{open_end.message}; the lease ran out meanwhile") from e
                elif not faults.may_go_better(e) or tries >= self.options.tries:
                    raise faults.translated(e, self.name) from e
            await self._clock.sleep(pause * (0.5 + self._process.uniform()))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _take(self, within: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        # a task of its own: whoever asks need not be one, and the driver's time-outs need one
        connecting = asyncio.get_running_loop().create_task(self.connect(within))
        try:
            connection = await connecting
        except asyncio.CancelledError:
            connecting.add_done_callback(_drop)
            raise
        if self.closed:
            connection.terminate()
            self.refuse_closed()
        return connection

    def _give_back(self, connection: Connection, broken: bool) -> None:
        self._lent.discard(connection)
        if broken or self.closed or connection.is_closed():
            connection.terminate()
        else:
            self._idle.append(connection)


async def _in_transaction(connection: Connection, sql: str, *values: Any, timeout: float) -> Rows:
    await connection.execute("begin", timeout=timeout)
    try:
        rows = await connection.fetch(sql, *values, timeout=timeout)
    except driver.DatabaseError as e:
        if not faults.is_lost(e):
            await connection.execute("rollback", timeout=timeout)
        raise
    await connection.execute("commit", timeout=timeout)
    return rows


def _drop(connecting: asyncio.Task[Connection]) -> None:
    """Nobody waits for this connection any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()
