"""An engine for tests: virtual time, seeded ids and randomness, a store of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from aob.client.client import Client
from aob.client.opening import open_store
from aob.client.present import use_present
from aob.client.run import Run
from aob.clock import to_datetime
from aob.engine.active import ActiveRun
from aob.engine.host import Host
from aob.settings import Settings, load
from aob.testing.seeded import SeededPresent, SeededProcess, quiet
from aob.testing.virtual import VirtualTime
from aob.worker.worker import Worker, collect
from aob.workflow.context import use_plain
from aob.workflow.definitions import Activity, Workflow

R = TypeVar("R")
NEW_YEAR = datetime(2025, 1, 1, tzinfo=UTC)
_NEVER = 1e12


class Stuck(AssertionError):
    """The test waits, but nothing is left that could happen, however much time passes."""


class Environment:
    """Made by `environment`; an async context manager. Inside it, the time of the running event loop is virtual.

    `client` is a connected client (see `aob.connect`) whose process serves the workflows that were given or started.
    """

    client: Client

    def __init__(
        self, workflows: tuple[Workflow[..., Any], ...], activities: tuple[Activity[..., Any], ...], seed: int,
        url: str, at: datetime, settings: Settings,
    ) -> None:  # fmt: skip
        self._workflows = workflows
        self._activities = activities
        self._url = url
        self._seed = seed
        self._settings = settings
        self._time = VirtualTime(at, self._attempts, self._nothing_left)
        self._process = SeededProcess(seed)
        self._worker: Worker
        self._task: asyncio.Task[Any] | None = None
        self._stuck: Stuck | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._exit = AsyncExitStack()
        self._time.install(asyncio.get_running_loop())
        self._exit.callback(self._time.remove)
        use_plain(SeededPresent(self._time, self._seed))
        self._exit.callback(use_present)
        try:
            store = quiet(await open_store(self._url, self._time, self._process, self._settings))
            self._exit.push_async_callback(store.close)
            self.client = Client(
                self._url, settings=self._settings, clock=self._time, process=self._process, store=store
            )
            await self._exit.enter_async_context(self.client)
            await self._serve()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        stuck, task, self._task = self._stuck, self._task, None
        await self._exit.aclose()
        if stuck is not None and isinstance(error, asyncio.CancelledError):
            if task is not None:
                task.uncancel()
            raise stuck from None

    @property
    def now(self) -> datetime:
        """The virtual time, UTC."""
        return to_datetime(self._time.now_us())

    async def advance(self, seconds: float | timedelta) -> None:
        """Let time pass, and everything happen that comes due meanwhile, in its order."""
        await asyncio.sleep(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
        await self._time.settle()

    async def settle(self) -> None:
        """Wait until everything has happened that can happen without time passing."""
        await self._time.settle()

    async def start(self, workflow: Workflow[..., R], *args: Any, **kwargs: Any) -> Run[R]:
        """Serve the workflow, if it is not served yet, and start a run; see `client.start` for the arguments."""
        known = {id(w) for w in self._workflows}
        if id(workflow) not in known:
            self._workflows = (*self._workflows, workflow)
            served = collect(self._workflows, self._activities)
            self.client.workflows.update(served)
            self._worker.workflows.update(served)
            if self._worker.host is not None:
                self._worker.host.programs.update(served)
        return await self.client.start(workflow, *args, **kwargs)

    async def restart(self) -> None:
        """Stop the worker and let a new one take over, which replays every open run."""
        await self._worker.stop()
        await self._serve()

    async def _serve(self) -> None:
        self._worker = self.client.serve(*self._workflows, activities=self._activities)
        await self._worker.__aenter__()

    # --- what virtual time asks ---------------------------------------------------------------------------------------

    def _host(self) -> Host | None:
        return self.client.host() if hasattr(self, "client") else None

    def _attempts(self) -> bool:
        host = self._host()
        return host is not None and any(run.busy for run in host.residents.all())

    def _nothing_left(self) -> bool:
        if self._task is None or self._stuck is not None:
            return False
        host = self._host()
        waits = [_waits(run) for run in host.residents.all()] if host is not None else []
        runs = "; ".join(waits) or "no run is open"
        self._stuck = Stuck(f"nothing is left that could happen, and the test still waits: {runs}")
        return self._task.cancel()


def environment(
    *workflows: Workflow[..., Any], seed: int = 0, url: str = "sqlite://", at: datetime = NEW_YEAR,
    activities: Iterable[Activity[..., Any]] = (), settings: Settings | None = None,
) -> Environment:  # fmt: skip
    """An engine in virtual time; use it with `async with`.

    Args:
        workflows: what is served from the beginning; `start` adds what is missing.
        seed: of ids, random numbers and jitter: the same seed makes the same history.
        url: the store; default: in memory.
        at: when time begins, aware.
        activities: those that are not in the workflows' own modules.
        settings: instead of those of the process; leases, polling and retention stand still in any case.
    """
    return Environment(workflows, tuple(activities), seed, url, at, still(settings or load()))


def still(settings: Settings) -> Settings:
    """The same settings, for virtual time: nothing of the engine's own comes round by itself."""
    return msgspec.structs.replace(
        settings, lease_ttl=_NEVER, sweep_every=_NEVER, retention_days=0.0, blocked_after=0.0
    )


def _waits(run: ActiveRun) -> str:
    """What a run waits for, in words."""
    machine = run.machine
    if machine is None:
        return f"run {run.run_id} is {run.row.status}, its code is not served"
    if machine.mismatch is not None:
        return f"run {run.run_id} is parked: {machine.mismatch}"
    waits = [f"signal {name!r}" for name in machine.mailbox.waits()]
    waits += [f"{step.kind} {step.id}" for step in machine.open.values()]
    return f"run {run.run_id} waits for {', '.join(waits) or 'a condition'}"
