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
from aob.stores.sqlite.settings import SqliteSettings

T = TypeVar("T")

_BUSY_STEP = 0.001


class Refused(Exception):
    """Roll back, and return `outcome`."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome


class Writer:
    """Runs functions inside transactions, one at a time.

    While the disk is fast they run on the event loop, which is the cheapest; when commits take long, in one thread, so
    that the process stays responsive. So do those that meet another process's lock.
    """

    def __init__(
        self, connection: Connection, path: str, clock: Clock, process: Process, settings: SqliteSettings
    ) -> None:
        self.connection = connection
        self.path = path
        self.news = True
        """Whether other connections committed since this was last set to False (inside a transaction)."""
        self.failure: StoreFailed | None = None
        self._clock = clock
        self._process = process
        self._settings = settings
        self._version = 0
        self._turn = asyncio.Lock()
        self._average = 0.0
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
        return self._average > self._settings.slow_commit

    async def run(self, fn: Callable[[], T]) -> T:
        """Run `fn` inside a write transaction and commit; durable when it returns.

        `fn` must do the same when it is called again: it is when another process held the lock at first.
        """
        async with self._turn:
            if not self.slow:
                try:
                    return self._measured(fn)
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
        self._patience = max(1, int(self._settings.busy_timeout / _BUSY_STEP))
        try:
            return self._measured(fn)
        except apsw.BusyError as e:
            raise faults.locked(self.path, self._settings.busy_timeout) from e
        finally:
            self._patience = 0

    def _measured(self, fn: Callable[[], T]) -> T:
        started = self._clock.monotonic()
        outcome = self._transact(fn)
        took = self._clock.monotonic() - started
        self._average += (took - self._average) / 8
        return outcome

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
            connection.execute("commit")
        except Refused as refused:
            self._roll_back()
            return refused.outcome
        except apsw.BusyError:
            raise
        except apsw.Error as e:
            raise self._judged(e) from e
        except BaseException:
            self._roll_back()
            raise
        # the connection's own commits move the number too; nobody else's can before its next transaction
        self._version = connection.data_version()
        if self._pages >= self._settings.checkpoint_pages:
            self._checkpoint()
        return outcome

    def _judged(self, error: apsw.Error) -> AobError:
        no_space = faults.out_of_space(error, self.connection.system_errno)
        if isinstance(error, apsw.IOError) and not no_space:
            self.failure = faults.failed(self.path, error)
        self._roll_back()
        if self.failure is not None:
            return self.failure
        return faults.full(self.path) if no_space else faults.translated(error, self.path, self._settings.busy_timeout)

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
