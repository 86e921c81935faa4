"""The one connection that writes: transactions, their pace, and what a failed one means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from aob.clock import Clock
from aob.errors import AobError, StoreFailed, StoreUnavailable
from aob.process import Process, Threads, pause
from aob.stores.sqlite import faults
from aob.stores.sqlite.driver import Connection
from aob.stores.sqlite.options import SqliteOptions

T = TypeVar("T")

_BUSY_STEP = 0.001


class Refused(Exception):
    """Roll back, and return `outcome`."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome


class Pace:
    """Whether commits are fast enough for the event loop, by their moving average.

    In a thread a commit looks slower than it is, by the wait for the interpreter. So when it does not look much too
    slow there, one is tried on the event loop now and then.
    """

    _TRY_EVERY = 5.0
    _THREAD_COSTS = 0.01

    def __init__(self, limit: float) -> None:
        self.slow = False
        self._limit = limit
        self._average = 0.0
        self._try_at = 0.0

    def inline(self, now: float) -> bool:
        """Whether the next commit is to run on the event loop."""
        if not self.slow:
            return True
        if now < self._try_at or self._average >= self._limit + self._THREAD_COSTS:
            return False
        self._try_at = now + self._TRY_EVERY
        return True

    def took(self, seconds: float, inline: bool) -> None:
        """Learn from a commit."""
        if inline and self.slow:
            self._average = seconds
        elif inline or self.slow:
            self._average += (seconds - self._average) / 8
        if inline:
            self.slow = self._average > self._limit


class Writer:
    """Runs functions inside transactions, one at a time.

    While the disk is fast they run on the event loop, which is the cheapest; when commits take long, in one thread, so
    that the process stays responsive. So do those that meet another process's lock.
    """

    def __init__(
        self, connection: Connection, path: str, clock: Clock, process: Process, options: SqliteOptions
    ) -> None:
        self.connection = connection
        self.path = path
        self.news = True
        """Whether other connections committed since this was last set to False (inside a transaction)."""
        self.failure: StoreFailed | None = None
        self._clock = clock
        self._process = process
        self._options = options
        self._version = 0
        self._turn = asyncio.Lock()
        self._pace = Pace(options.slow_commit)
        self._thread: Threads | None = None
        self._patience = 0
        self._pages = 0
        self._closed = False
        connection.set_busy_handler(self._wait)
        connection.wal_autocheckpoint(0)
        connection.set_wal_hook(self._grown)

    @property
    def slow(self) -> bool:
        """Whether commits go through the thread now."""
        return self._pace.slow

    async def run(self, fn: Callable[[], T]) -> T:
        """Run `fn` inside a write transaction and commit; durable when it returns.

        `fn` must do the same when it is called again: it is when another process held the lock at first.
        """
        async with self._turn:
            if self._pace.inline(self._clock.monotonic()):
                try:
                    return self._transact(fn)
                except apsw.BusyError:
                    pass
            return await self._elsewhere(fn)

    async def close(self) -> None:
        """Let go of the file, after the transaction under way. After a failure nothing more is written to it."""
        async with self._turn:
            if self._closed:
                return
            self._closed = True
            if self._thread is not None:
                self._thread.shutdown(wait=True)
            if self.failure is not None:
                self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.connection.close()

    async def _elsewhere(self, fn: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = self._process.threads(1, "aob-sqlite")
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._patient, fn)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # the transaction goes on; the next one must wait for it
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            raise

    def _patient(self, fn: Callable[[], T]) -> T:
        self._patience = max(1, int(self._options.busy_timeout / _BUSY_STEP))
        try:
            return self._transact(fn)
        except apsw.BusyError as e:
            raise faults.locked(self.path, self._options.busy_timeout) from e
        finally:
            self._patience = 0

    def _transact(self, fn: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable(f"{self.path} was closed")
        if self.failure is not None:
            raise self.failure
        connection = self.connection
        try:
            connection.execute("begin immediate")
            version = connection.data_version()
            if version != self._version:
                self._version = version
                self.news = True
            outcome = fn()
            started = self._clock.monotonic()
            connection.execute("commit")
            took = self._clock.monotonic() - started
        except Refused as refused:
            self._roll_back()
            return refused.outcome
        except apsw.BusyError:
            self._roll_back()
            raise
        except apsw.Error as e:
            raise self._judged(e) from e
        except BaseException:
            self._roll_back()
            raise
        # the connection's own commits move the number too; nobody else's can before its next transaction
        self._version = connection.data_version()
        self._pace.took(took, inline=self._patience == 0)
        if self._pages >= self._options.checkpoint_pages:
            self._checkpoint()
        return outcome

    def _judged(self, error: apsw.Error) -> AobError:
        no_space = faults.out_of_space(error, self.connection.system_errno)
        if isinstance(error, apsw.IOError) and not no_space:
            self.failure = faults.failed(self.path, error)
        self._roll_back()
        if self.failure is not None:
            return self.failure
        return faults.full(self.path) if no_space else faults.translated(error, self.path, self._options.busy_timeout)

    def _roll_back(self) -> None:
        if not self.connection.in_transaction:
            return
        try:
            self.connection.execute("rollback")
        except apsw.Error as e:
            self.failure = self.failure or faults.failed(self.path, e)

    def _checkpoint(self) -> None:
        # Done here, not by SQLite's own hook: that one hides a failed sync.
        try:
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._pages = 0
        except (apsw.BusyError, apsw.LockedError):
            pass
        except apsw.Error as e:
            # What was committed is safe in the log; a full disk is met again by the next commit.
            if not faults.out_of_space(e, self.connection.system_errno):
                self.failure = faults.failed(self.path, e)

    def _grown(self, _connection: Connection, _schema: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def _wait(self, tries: int) -> bool:
        if tries >= self._patience:
            return False
        pause(_BUSY_STEP)
        return True
