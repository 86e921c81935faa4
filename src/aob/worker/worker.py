"""A process that runs the workflows of the partitions it owns: it takes its share of them, and stands by while it has
none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aob import telemetry
from aob.clock import Clock
from aob.engine.exporter import Exporter
from aob.engine.handover import hand_over, quietest
from aob.engine.host import Host
from aob.engine.partitions import pools
from aob.engine.patience import PASSING
from aob.engine.payloads import PayloadCodec
from aob.engine.pins import LANES_OF_A_BUILD
from aob.errors import (
    AobError,
    DuplicateDefinition,
    LeaseLost,
    NotSupported,
    OperatorError,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
)
from aob.kernel import guard
from aob.process import Process, settle_memory, watch_blocking
from aob.settings import Settings
from aob.stores.protocol import Store
from aob.stores.rows import Lease
from aob.worker.executor import LocalExecutor
from aob.worker.watchdog import Watchdog
from aob.workflow.definitions import Activity, Workflow


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
        exporters: tuple[Exporter, ...] = (),
    ) -> None:
        if queues:
            raise NotSupported("task queues are not part of this engine yet: leave queues= out")
        refuse_same_name(exporters)
        self.workflows = collect(workflows, activities)
        self._store = store
        self._clock = clock
        self._process = process
        self._settings = settings
        self._codec = codec
        self._exporters = exporters
        self.make_executor: Callable[[Clock, Process, Settings], LocalExecutor] = LocalExecutor
        self.host: Host | None = None
        self.executor: LocalExecutor | None = None
        self.failed: AobError | None = None
        self._sharing: asyncio.Task[None] | None = None
        self._giving: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._watchdog: Watchdog | None = None
        self._stopped = self._prepared = False
        self._free = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pinned(self) -> list[str]:
        """Names of the workflows whose runs stay with their build."""
        return sorted(name for name, workflow in self.workflows.items() if workflow.pinned)

    async def __aenter__(self) -> Self:
        if self.pinned and not self._settings.build:
            telemetry.tell("no_build", workflows=", ".join(self.pinned))
        with suppress(LeaseLost, StoreLocked, StoreFull):  # as below: it is tried again
            await self._share()
        if self.host is None:
            telemetry.tell("standing_by")
        self._sharing = asyncio.get_running_loop().create_task(self._keep_share())
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
        for task in (self._sharing, self._giving):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*self._closing, return_exceptions=True)
        host, executor = self.host, self.executor
        if self._watchdog is not None:
            self._watchdog.stop()
        if host is not None and host.failed is None and len(host.commits.leases) > 1:
            await self._give(hand_over(host, list(host.commits.leases), self._settings.drain_timeout))
        if executor is not None:
            await executor.close(self._settings.drain_timeout if self.failed is None else 0)
        if host is not None:
            await host.stop()
        self.host = self.executor = None
        with suppress(OperatorError):  # a store that failed is not there to be told
            await self._store.leave(self._process.name)
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

    async def _keep_share(self) -> None:
        """Take what becomes free, and give what is more than this worker's share. While there is nothing to take this
        looks often, for a dead owner's runs must go on; each release is heard of at once."""
        ttl = self._settings.lease_ttl
        while not self._stopped:
            if self.host is None:
                await self._store.wait_changed(min(0.5, ttl / 10))
                await self._clock.sleep(0.02)
            elif self._store.partitions > 1 or self._store.skew_us is not None:  # a server's store may have more soon
                await self._clock.sleep(ttl / 10)
            else:
                await self._free.wait()
                self._free.clear()
                continue
            try:
                await self._share()
            except (LeaseLost, StoreLocked):
                continue  # somebody else was quicker, or holds the store's lock just now
            except StoreFull as e:
                telemetry.tell(e.code)
                await self._clock.sleep(ttl / 10)
            except StoreUnavailable as e:
                telemetry.tell("store_away", error=e)
                await self._clock.sleep(ttl / 10)
            except AobError as e:
                self._lost(e)
                return

    async def _share(self) -> None:
        settings, name = self._settings, self._process.name
        await self._prepare_lanes()
        workers = await self._store.announce(name, settings.lease_ttl, settings.build)
        held = set[int]() if self.host is None else set(self.host.commits.leases)
        too_many: list[int] = []
        for pool in pools(self._store, settings.build, workers, name, held):
            more = pool.too_few(name)
            if more > 0 and (leases := await self._store.acquire_some(name, settings.lease_ttl, more, pool.build)):
                await self._own(leases)
            elif more < 0 and self.host is not None:
                too_many += quietest(self.host, -more, pool.held)
        if too_many and self.host is not None and (self._giving is None or self._giving.done()):
            giving = hand_over(self.host, too_many, settings.drain_timeout)
            self._giving = asyncio.get_running_loop().create_task(self._give(giving))

    async def _prepare_lanes(self) -> None:
        build = self._settings.build
        if self._prepared or not (build and self.pinned):
            return
        if build in await self._store.retired():
            telemetry.tell("build_retired", build=build, workflows=", ".join(self.pinned))
        await self._store.make_lanes(build, LANES_OF_A_BUILD)
        self._prepared = True

    async def _give(self, giving: Coroutine[Any, Any, None]) -> None:
        with suppress(LeaseLost, *PASSING):  # the host has ended, and said so
            await giving

    async def _own(self, leases: list[Lease]) -> None:
        if self.host is not None:
            await self.host.take(leases)
            return
        executor = self.make_executor(self._clock, self._process, self._settings)
        host = Host(
            self._store,
            self._clock,
            self._process,
            self._settings,
            executor,
            programs=dict(self.workflows),
            codec=self._codec,
            exporters=self._exporters,
            stopped=lambda e: self._lost(e),
        )
        self.executor, self.host = executor, host
        settle_memory()
        guard.install(watch_blocking)
        self._watchdog = Watchdog(self._settings.blocked_after)
        await host.start(leases)

    def _lost(self, error: AobError) -> None:
        """The lease is gone, or the store failed: stop what runs; with a lost lease, stand by again."""
        host, executor = self.host, self.executor
        self.host = self.executor = None
        self._free.set()
        if self._watchdog is not None:
            self._watchdog.stop()
        if host is not None and executor is not None:
            task = asyncio.get_running_loop().create_task(self._let_go(host, executor))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if not isinstance(error, LeaseLost):
            self.failed = error
            self._ended.set()

    async def _let_go(self, host: Host, executor: LocalExecutor) -> None:
        await executor.close(0)
        with suppress(OperatorError):  # a store that failed cannot be told either; the error is known
            await host.stop()


def refuse_same_name(exporters: tuple[Exporter, ...]) -> None:
    """See that each exporter has a name of its own.

    Raises:
        DuplicateDefinition: two have one name.
    """
    names = [exporter.name for exporter in exporters]
    for name in names:
        if not name or names.count(name) > 1:
            raise DuplicateDefinition(f"exporters are told apart by their names, and {name!r} cannot be one of them")


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
