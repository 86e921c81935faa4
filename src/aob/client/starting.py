"""Starting runs, here or through the inbox of whoever owns them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from msgspec import Raw

from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.host import Host
from aob.engine.payloads import Payloads
from aob.engine.starts import StartRequest, exist_error, exists_error, row_of, same_start
from aob.errors import LeaseLost, RunExists
from aob.stores.protocol import Store
from aob.stores.rows import Message, RunRow, partition_of

SignalLeft = tuple[str, Raw, str | None]


class Starting:
    """Starts what is requested; durable when it returns.

    Args:
        serving: the host of this process while it owns partitions, else None.
    """

    def __init__(self, store: Store, clock: Clock, payloads: Payloads, serving: Callable[[], Host | None]) -> None:
        self._store = store
        self._clock = clock
        self._payloads = payloads
        self._serving = serving

    async def start(self, request: StartRequest) -> tuple[ActiveRun | None, SignalLeft | None]:
        """Start a run, or find the one that was started before.

        Returns:
            The run, where it is new and in this process's memory; and the signal that the run that was found has
            still to be sent.

        Raises:
            RunExists: the id is taken by a run with another workflow or input.
        """
        host = self._serving()
        if host is not None:
            with suppress(LeaseLost):  # another process owns it now, and nothing was written here
                got = await host.starts.start(request)
                return got if isinstance(got, ActiveRun) else None, None
        message, row = self._message(request)
        existing = await self._store.send(message, row)
        if existing is None:
            return None, None
        if not same_start(existing, row):
            raise exists_error(existing)
        return None, request.signal

    async def start_some(self, requests: list[StartRequest]) -> list[ActiveRun | None]:
        """Start up to 1,000 runs in one commit, all or none; those that are new and in this process's memory.

        Raises:
            RunExists: some ids are taken by other runs, or given twice.
        """
        names = [r.run_id for r in requests]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})[:10]
            raise RunExists(f"these run_ids are given twice: {', '.join(twice)}")
        host = self._serving()
        if host is not None:
            with suppress(LeaseLost):
                begun = await host.starts.start_many(requests)
                return [run if isinstance(run, ActiveRun) else None for run in begun]
        await self._some_elsewhere(requests)
        return [None] * len(requests)

    async def _some_elsewhere(self, requests: list[StartRequest]) -> None:
        sends = [self._message(r) for r in requests]
        while sends:
            conflicts = await self._store.send_many(sends)
            others = [existing for row, existing in conflicts if not same_start(existing, row)]
            if others:
                raise exist_error(others)
            met = {id(row) for row, _ in conflicts}
            sends = [(message, row) for message, row in sends if id(row) not in met] if met else []

    def _message(self, request: StartRequest) -> tuple[Message, RunRow]:
        body = self._payloads.seal_message(request)
        message = Message(tenant=request.tenant, run_id=request.run_id, kind="start", body=body)
        partition = partition_of(request.tenant, request.run_id, self._store.partitions)
        return message, row_of(request, self._clock.now_us(), "pending", partition)
