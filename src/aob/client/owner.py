"""The way to a run's owner: this process, nobody (then it becomes the owner for a moment), or another process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.asker import Reply
from aob.engine.executor import Outcomes
from aob.engine.host import Host
from aob.engine.partitions import NotOwner
from aob.engine.payloads import Payloads
from aob.errors import LeaseLost, NoWorker
from aob.kernel.failures import restore
from aob.kernel.steps import Step
from aob.process import Process
from aob.settings import Settings
from aob.stores.protocol import Store
from aob.stores.rows import Message, partition_of

_ANSWER_WITHIN = 30.0


class NoExecutor:
    """Runs nothing: a process that owns a partition only to write a message has no code."""

    def start(self, run: ActiveRun, step: Step, outcomes: Outcomes) -> Any:
        raise AssertionError("a host without programs has no steps to start")

    def stop(self, attempt: Any) -> None:
        return


class Owner:
    """Reaches the owner of a run's partition.

    Args:
        serving: the host of this process while it owns partitions, else None.
    """

    def __init__(
        self, store: Store, clock: Clock, process: Process, settings: Settings, payloads: Payloads,
        serving: Callable[[], Host | None],
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._process = process
        self._settings = settings
        self._payloads = payloads
        self.serving = serving

    async def ask(self, tenant: str, run_id: str, kind: str, body: Any, here: Callable[[Host], Awaitable[Any]]) -> Any:
        """Have the owner do something and wait for its answer.

        Args:
            kind, body: the message, if the owner is another process.
            here: the same, done on a host of this process.

        Returns:
            What `here` returned, or the answer as JSON bytes (`Raw`).

        Raises:
            NoWorker: the owner did not answer in time; and what the owner raised.
        """
        host = self.serving()
        if host is not None:
            try:
                return await here(host)
            except LeaseLost:  # another process owns it now, and nothing was written here
                pass
        async with self._for_a_moment(tenant, run_id) as host:
            if host is not None:
                try:
                    return await here(host)
                except NotOwner:  # the run has begun meanwhile, elsewhere
                    pass
                except NoWorker:
                    if self._store.partitions == 1:
                        raise
                    # of many partitions one may be on its way to a worker that has the code
        return await self._send_and_wait(tenant, run_id, kind, body)

    async def tell(self, tenant: str, run_id: str, kind: str, body: Any) -> None:
        """Leave a message for the owner; durable when it returns."""
        sealed = self._payloads.seal_message(body)
        await self._store.send(Message(tenant=tenant, run_id=run_id, kind=kind, body=sealed))

    @asynccontextmanager
    async def _for_a_moment(self, tenant: str, run_id: str) -> AsyncGenerator[Host | None]:
        partition = 0
        if self._store.partitions > 1:
            row = await self._store.get_run(tenant, run_id)
            partition = partition_of(tenant, run_id, self._store.partitions) if row is None else row.partition
        lease = await self._store.acquire(partition, self._process.name, self._settings.lease_ttl)
        if lease is None:
            yield None
            return
        if not lease.clean:
            # somebody died with work in flight: only a worker may take that over, and count it
            await self._store.release([lease], clean=False)
            yield None
            return
        host = Host(
            self._store, self._clock, self._process, self._settings, NoExecutor(), programs={},
            codec=self._payloads.codec,
        )  # fmt: skip
        host.commits.start([lease])
        try:
            yield host
        finally:
            await host.stop()

    async def _send_and_wait(self, tenant: str, run_id: str, kind: str, body: Any) -> Any:
        reply = self._process.new_id(20)
        expires = self._clock.now_us() + round(_ANSWER_WITHIN * 1e6)
        sealed = self._payloads.seal_message(body)
        message = Message(tenant=tenant, run_id=run_id, kind=kind, body=sealed, reply=reply, expires=expires)
        await self._store.send(message)
        deadline = self._clock.monotonic() + _ANSWER_WITHIN
        while (answer := await self._store.take_reply(reply)) is None:
            if self._clock.monotonic() > deadline:
                raise NoWorker(
                    f"no worker answered within {_ANSWER_WITHIN:g} s: is one running on this store?", run_id=run_id
                )
            await self._store.wait_changed(0.1)
        got = msgspec.json.decode(self._payloads.open_message(answer), type=Reply)
        if got.failure is not None:
            raise restore(got.failure)
        return got.result
