"""How handles of runs hear that something happened: from this process's worker, or from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from aob.client.live import LiveStream
from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.host import Host
from aob.stores.protocol import Store
from aob.stores.rows import partition_of
from aob.worker.worker import Worker


class Watching:
    """Waits for what becomes of runs.

    Args:
        workers: those of this process.
        serving: the host of this process while it owns partitions, else None.
    """

    def __init__(
        self, store: Store, clock: Clock, workers: Sequence[Worker], serving: Callable[[], Host | None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._workers = workers
        self._serving = serving

    def final(self, tenant: str, run_id: str) -> bool:
        """Whether an end that was seen in this process still is one: a retry opens a run again."""
        host = self._serving()
        return host is not None and (tenant, run_id) not in host.residents.reopened

    def active(self, tenant: str, run_id: str) -> ActiveRun | None:
        """The run in this process's memory, while it is there."""
        host = self._serving()
        return None if host is None else host.residents.by_id.get((tenant, run_id))

    def next_commit(self, tenant: str, run_id: str) -> asyncio.Future[None] | None:
        """A future that is done when this process has committed something of the run; None where another process
        owns it."""
        host = self._serving()
        if host is None:
            return None
        run = host.residents.by_id.get((tenant, run_id))
        if run is None and not host.owns(partition_of(tenant, run_id, self._store.partitions)):
            return None
        return host.residents.next_commit(tenant, run_id)

    async def wait(self, commit: asyncio.Future[None] | None, at_most: float, stream: LiveStream | None = None) -> None:
        """Until something may have happened.

        Raises:
            OperatorError: the store failed under this process's worker, so nothing more will happen here.
        """
        if commit is None:
            for worker in self._workers:
                if worker.failed is not None:
                    raise worker.failed
            await self._store.wait_changed(at_most)
            return
        waits: list[asyncio.Future[Any]] = [commit]
        if stream is not None and stream.on:
            waits.append(stream.next())
        if self._serving() is not None:
            # only where every partition is this process's does it surely commit what is waited for
            within = None if self._store.partitions == 1 else at_most
            await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)

    @contextmanager
    def live(self, tenant: str, run_id: str, on: bool) -> Generator[LiveStream]:
        """What attempts of a run of this process emit while the block lasts."""
        executors = [w.executor for w in self._workers if w.executor is not None] if on else []
        with LiveStream(self._clock, tenant, run_id, executors) as stream:
            yield stream
