"""A process that runs the workflows of the partitions it owns: takes the lease, or stands by until it can."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aob import telemetry
from aob.clock import Clock
from aob.engine.host import Host
from aob.engine.payloads import PayloadCodec
from aob.errors import AobError, DuplicateDefinition, LeaseLost, NotSupported, OperatorError, StoreLocked
from aob.kernel import guard
from aob.process import Process, settle_memory, watch_blocking
from aob.settings import Settings
from aob.stores.protocol import Store
from aob.worker.executor import LocalExecutor
from aob.worker.watchdog import Watchdog
from aob.workflow.definitions import Activity, Workflow

_PARTITION = 0


class Worker:
    """Made by `client.serve`; an async context manager.

    Args:
        workflows, activities: what is served, beside what the workflows' modules define.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        process: Process,
        settings: Settings,
        workflows: tuple[Workflow[..., Any], ...],
        activities: tuple[Activity[..., Any], ...],
        codec: PayloadCodec | None,
        queues: tuple[str, ...],
    ) -> None:
        if queues:
            raise NotSupported("task queues are not part of this engine yet: leave queues= out")
        self.workflows = collect(workflows, activities)
        self._store = store
        self._clock = clock
        self._process = process
        self._settings = settings
        self._codec = codec
        self.make_executor: Callable[[Clock, Process, Settings], LocalExecutor] = LocalExecutor
        self.host: Host | None = None
        self.executor: LocalExecutor | None = None
        self.failed: AobError | None = None
        self._standing_by: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._watchdog: Watchdog | None = None
        self._stopped = False
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        if not await self._take_over():
            telemetry.tell("standing_by", partition=_PARTITION)
            self._stand_by()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Finish or hand over what is held. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        if self._standing_by is not None:
            self._standing_by.cancel()
            await asyncio.gather(self._standing_by, return_exceptions=True)
        await asyncio.gather(*self._closing, return_exceptions=True)
        host, executor = self.host, self.executor
        if self._watchdog is not None:
            self._watchdog.stop()
        if executor is not None:
            await executor.close(self._settings.drain_timeout if self.failed is None else 0)
        if host is not None:
            await host.stop()
        self.host = self.executor = None
        self._ended.set()

    async def ended(self) -> None:
        """Wait until the worker has stopped, or its store has failed.

        Raises:
            AobError: why it ended, if it was not stopped.
        """
        await self._ended.wait()
        if self.failed is not None:
            raise self.failed

    # --- owning -----------------------------------------------------------------------------------

    async def _take_over(self) -> bool:
        lease = await self._store.acquire(_PARTITION, self._process.name, self._settings.lease_ttl)
        if lease is None:
            return False
        executor = self.make_executor(self._clock, self._process, self._settings)
        host = Host(
            self._store,
            self._clock,
            self._process,
            self._settings,
            executor,
            programs=dict(self.workflows),
            codec=self._codec,
            stopped=lambda e: self._lost(e),
        )
        self.executor, self.host = executor, host
        settle_memory()
        guard.install(watch_blocking)
        self._watchdog = Watchdog(self._settings.blocked_after)
        await host.start(lease)
        return True

    def _stand_by(self) -> None:
        self._standing_by = asyncio.get_running_loop().create_task(self._wait_for_lease())

    async def _wait_for_lease(self) -> None:
        while not self._stopped:
            await self._store.wait_changed(min(0.5, self._settings.lease_ttl / 10))
            await self._clock.sleep(0.02)
            try:
                if await self._take_over():
                    return
            except (LeaseLost, StoreLocked):
                continue  # somebody else was quicker, or holds the store's lock just now
            except AobError as e:
                self._lost(e)
                return

    def _lost(self, error: AobError) -> None:
        """The lease is gone, or the store failed: stop what runs; with a lost lease, stand by again."""
        host, executor = self.host, self.executor
        self.host = self.executor = None
        if self._watchdog is not None:
            self._watchdog.stop()
        if host is not None and executor is not None:
            task = asyncio.get_running_loop().create_task(self._let_go(host, executor))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if isinstance(error, LeaseLost):
            if not self._stopped:
                self._stand_by()
        else:
            self.failed = error
            self._ended.set()

    async def _let_go(self, host: Host, executor: LocalExecutor) -> None:
        await executor.close(0)
        with suppress(OperatorError):  # a store that failed cannot be told either; the error is known
            await host.stop()


def collect(
    workflows: tuple[Workflow[..., Any], ...], activities: tuple[Activity[..., Any], ...]
) -> dict[str, Workflow[..., Any]]:
    """Workflows by name: those given, and those that their modules define.

    Raises:
        DuplicateDefinition: two definitions have one name.
    """
    found: dict[str, Workflow[..., Any]] = {}
    acts: dict[str, Activity[..., Any]] = {}
    for workflow in workflows:
        _take(found, workflow.name, workflow, workflow.fn)
    for activity in activities:
        _take(acts, activity.name, activity, activity.plan.fn)
    for module in {w.fn.__module__ for w in workflows}:
        for value in list(vars(sys.modules.get(module, object)).values()) if module in sys.modules else []:
            if isinstance(value, Workflow):
                _take(found, value.name, value, value.fn)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            elif isinstance(value, Activity):
                _take(acts, value.name, value, value.plan.fn)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _take(found: dict[str, Any], name: str, value: Any, fn: Any) -> None:
    other = found.setdefault(name, value)
    first = other.fn if isinstance(other, Workflow) else other.plan.fn
    if first is not fn:
        raise DuplicateDefinition(
            f"two definitions are named {name!r}: {_where(first)} and {_where(fn)}; give one another name="
        )


def _where(fn: Any) -> str:
    code = fn.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"
