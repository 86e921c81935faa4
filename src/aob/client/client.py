"""`aob.connect`: one client for every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import msgspec
from msgspec import Raw

from aob.client.opening import open_store
from aob.client.owner import Owner
from aob.client.requests import arguments_of, moment_of, request_of, signal_of
from aob.client.run import Run, annotation_of
from aob.client.starting import Starting
from aob.client.views import Page, Ticket, key_of, summary_view, ticket_view
from aob.client.watching import Watching
from aob.clock import Clock, SystemClock
from aob.engine.active import ActiveRun
from aob.engine.exporter import Exporter
from aob.engine.history import History
from aob.engine.host import Host
from aob.engine.inbox import Decide, Reason
from aob.engine.payloads import PayloadCodec, Payloads
from aob.engine.starts import StartRequest
from aob.engine.tickets import Decision
from aob.errors import BadInput, RunNotFound
from aob.kernel.codec import codec_for
from aob.kernel.events import NULL
from aob.kernel.texts import check_text
from aob.process import Process, SystemProcess
from aob.settings import Settings, load
from aob.stores.protocol import Store
from aob.stores.rows import RunFilter, TicketRow
from aob.worker.worker import Worker
from aob.workflow.definitions import Activity, Workflow

P = ParamSpec("P")
R = TypeVar("R")
_MANY = 1_000
_CAPABILITIES = frozenset((
    "checkpoint", "children", "delete", "fork", "pause", "query", "retry", "start_at", "start_many", "tickets", "update"
))  # fmt: skip


class Client:
    """A connection to an engine. Made by `aob.connect`; an async context manager.

    Args:
        url: `sqlite:///path`, `sqlite://` (in memory).
        tenant: of calls that name none.
        codec: encrypts payloads.
    """

    def __init__(
        self,
        url: str,
        *,
        tenant: str | None = None,
        codec: PayloadCodec | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        process: Process | None = None,
        store: Store | None = None,
    ) -> None:
        self.url = url
        self.settings = settings or load()
        self.tenant = tenant or self.settings.tenant
        self.clock: Clock = clock or SystemClock()
        self.process: Process = process or SystemProcess()
        self._codec = codec
        self._given = store
        self._workers: list[Worker] = []
        self.workflows: dict[str, Workflow[..., Any]] = {}
        self.store: Store

    async def __aenter__(self) -> Self:
        self.store = self._given or await open_store(self.url, self.clock, self.process, self.settings)
        self.payloads = Payloads(self.store, self._codec, self.settings.blob_over)
        self.history = History(self.store, self.payloads)
        self.owner = Owner(self.store, self.clock, self.process, self.settings, self.payloads, self.host)
        self.watching = Watching(self.store, self.clock, self._workers, self.host)
        self._starting = Starting(self.store, self.clock, self.payloads, self.host)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        async with AsyncExitStack() as stack:
            if self._given is None:
                stack.push_async_callback(self.store.close)
            for worker in self._workers:
                stack.push_async_callback(worker.stop)

    @property
    def capabilities(self) -> frozenset[str]:
        """What this engine can do; a call that needs more raises `NotSupported`."""
        return _CAPABILITIES

    # --- serving ----------------------------------------------------------------------------------

    def serve(
        self, *workflows: Workflow[..., Any], queues: Sequence[str] = (),
        activities: Iterable[Activity[..., Any]] = (), exporters: Iterable[Exporter] = (),
    ) -> Worker:  # fmt: skip
        """Make this process a worker for these workflows inside an `async with` block; it stops gracefully at its end.

        When another process serves the store, this one stands by and takes over when that one stops or dies.

        Args:
            activities: those that are not in the workflows' own modules.
            exporters: are given every event of the partitions that this worker owns, such as `aob.JsonLines(path)`.

        Raises:
            DuplicateDefinition: two definitions, or two exporters, have one name.
        """
        worker = Worker(
            self.store, self.clock, self.process, self.settings, workflows, tuple(activities), self._codec,
            tuple(queues), tuple(exporters),
        )  # fmt: skip
        self.workflows.update(worker.workflows)
        self._workers.append(worker)
        return worker

    def host(self) -> Host | None:
        """The host of this process, while it owns partitions."""
        for worker in self._workers:
            if worker.host is not None:
                return worker.host
        return None

    # --- starting ---------------------------------------------------------------------------------

    @overload
    async def start(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Run[R]: ...
    @overload
    async def start(
        self,
        workflow: Workflow[..., R] | str,
        *args: Any,
        run_id: str | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
        start_at: datetime | None = None,
        signal: tuple[Any, ...] | None = None,
        **kwargs: Any,
    ) -> Run[R]: ...
    async def start(  # pyright: ignore[reportInconsistentOverload]
        self,
        workflow: Workflow[..., Any] | str,
        *args: Any,
        run_id: str | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
        start_at: datetime | None = None,
        signal: tuple[Any, ...] | None = None,
        **kwargs: Any,
    ) -> Run[Any]:
        """Start a run; durable when it returns. The same `run_id`, workflow and input return the run that exists.

        Args:
            workflow: the workflow, or its name.
            run_id: 1 to 200 letters, digits and `._-:@+=`; made up if missing.
            attributes: labels for lists.
            timeout: seconds or a timedelta from the start to the end; default: the workflow's.
            start_at: an aware datetime before which it does not begin.
            signal: (name, payload, id) delivered with the start, or to the existing run.

        Raises:
            RunExists: the id is taken by a run with another workflow or input.
            BadRunId, BadInput, BadValue.
        """
        request, definition = self._request(workflow, args, kwargs, run_id, tenant, attributes)
        if timeout is not None:
            request.timeout = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if start_at is not None:
            request.start_at = moment_of(start_at)
        if signal is not None:
            request.signal = signal_of(signal)
        active, signal_left = await self._starting.start(request)
        run = Run(self, request.tenant, request.run_id, definition, active)
        if signal_left is not None:
            name, payload, signal_id = signal_left
            await run.signal(name, msgspec.json.decode(payload), signal_id)
        return run

    async def start_many(
        self,
        workflow: Workflow[..., R] | str,
        inputs: Sequence[Any],
        run_ids: Sequence[str] | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> list[Run[R]]:
        """Start one run for each input, in commits of at most 1,000, each all or nothing. Safe to repeat with the
        same `run_ids`.

        Args:
            inputs: each the workflow's only argument, or a tuple of arguments, or a dict of them by name.

        Raises:
            RunExists: ids of a commit are taken by other runs; they are named, and nothing of that commit was started.
        """
        if run_ids is not None and len(run_ids) != len(inputs):
            raise BadInput(f"start_many was given {len(inputs)} inputs and {len(run_ids)} run_ids")
        requests: list[StartRequest] = []
        definition: Workflow[..., Any] | None = None
        for i, value in enumerate(inputs):
            args, kwargs = arguments_of(workflow, value)
            request, definition = self._request(
                workflow, args, kwargs, run_ids[i] if run_ids else None, tenant, attributes
            )
            requests.append(request)
        begun: list[ActiveRun | None] = []
        for start in range(0, len(requests), _MANY):
            begun += await self._starting.start_some(requests[start : start + _MANY])
        return [Run(self, r.tenant, r.run_id, definition, run) for r, run in zip(requests, begun, strict=True)]

    def _request(
        self, workflow: Workflow[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any], run_id: str | None,
        tenant: str | None, attributes: Mapping[str, str] | None,
    ) -> tuple[StartRequest, Workflow[..., Any] | None]:  # fmt: skip
        definition = self.workflows.get(workflow) if isinstance(workflow, str) else workflow
        name = self.process.new_id(20) if run_id is None else run_id
        request = request_of(workflow, definition, args, kwargs, name, tenant or self.tenant, attributes)
        if definition is not None:
            self.workflows.setdefault(definition.name, definition)
        return request, definition

    # --- finding ----------------------------------------------------------------------------------

    async def get(self, run_id: str, tenant: str | None = None) -> Run[Any]:
        """A handle of a run.

        Raises:
            RunNotFound: there is none.
        """
        row = await self.store.get_run(tenant or self.tenant, run_id)
        if row is None:
            raise RunNotFound(f"no run {run_id!r} of tenant {tenant or self.tenant!r}", run_id=run_id)
        return Run(self, row.tenant, row.run_id, self.workflows.get(row.workflow))

    async def list(
        self,
        status: str | Sequence[str] | None = None,
        workflow: str | Workflow[..., Any] | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        parent: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Summaries, newest first, a page at a time; without `tenant` the client's own.

        Args:
            cursor: of the page before.
            limit: at most 1,000.
        """
        where = RunFilter(
            tenant=tenant or self.tenant,
            status=(status,) if isinstance(status, str) else tuple(status or ()),
            workflow=workflow.name if isinstance(workflow, Workflow) else workflow,
            attributes=dict(attributes or {}),
            parent=parent,
            before=key_of(cursor),
            limit=min(max(limit, 1), 1_000),
        )
        rows = await self.store.list_runs(where)
        shown = self.payloads.shown_text
        return Page([summary_view(r, shown) for r in rows], str(rows[-1].key) if len(rows) == where.limit else None)

    async def delete(self, run_id: str, tenant: str | None = None) -> None:
        """Delete an ended run; its id is free afterwards. Exporters that are at work are waited for, for some seconds.

        Raises:
            RunNotFound, NotFinished.
            StillNeeded: the run that started it may ask for its result again: delete that one first.
            NotExported: an exporter has not come past its events.
        """
        run = await self.get(run_id, tenant)
        await self.owner.ask(
            run.tenant, run_id, "delete", Reason(), lambda h: h.controls.removal.delete(run.tenant, run_id)
        )

    # --- tickets ----------------------------------------------------------------------------------

    async def tickets(
        self, status: str | None = "open", run_id: str | None = None, tenant: str | None = None, limit: int = 100
    ) -> list[Ticket]:
        """Approvals, newest first."""
        rows = await self.store.tickets(tenant or self.tenant, status, run_id, limit)
        return [await self._ticket(r) for r in rows]

    async def _ticket(self, row: TicketRow) -> Ticket:
        return ticket_view(row, await self.payloads.open_bytes(row.data), self.payloads.open_text)

    async def decide(
        self, ticket: str, approved: bool, *, by: str, reason: str = "", data: object = None, tenant: str | None = None
    ) -> Ticket:
        """Approve or reject a ticket; exactly one decision counts.

        Args:
            by: who decides; recorded in the history.
            data: the edited value, if it was edited; it must fit the type that the approval asks for.

        Raises:
            TicketNotFound, TicketClosed, BadPayload, BadInput.
        """
        check_text("decision", by, reason)
        edited = (
            NULL if data is None else Raw(codec_for(annotation_of(data), f"ticket {ticket}").encode_checked(data)[0])
        )
        decision = Decision(approved=approved, by=by, reason=reason, data=edited)
        name = tenant or self.tenant
        known = await self.store.get_ticket(name, ticket)
        run_id = known.run_id if known is not None else ""
        got = await self.owner.ask(
            name, run_id, "decide", Decide(ticket, decision),
            lambda h: h.controls.tickets.decide(name, ticket, decision),
        )  # fmt: skip
        row = got if isinstance(got, TicketRow) else msgspec.json.decode(bytes(got), type=TicketRow)
        return await self._ticket(row)


def connect(
    url: str | None = None,
    *,
    tenant: str | None = None,
    codec: PayloadCodec | None = None,
    api_key: str | None = None,
    settings: Settings | None = None,
) -> Client:
    """A client of the engine that `url` names; use it with `async with`.

    Args:
        url: `sqlite:///path`, `sqlite://` (in memory). Default: `AOB_STORE`, else `sqlite:///aob.db`.
        tenant: of calls that name none. Default: `AOB_TENANT`, else `default`.
        codec: an object with `encode(bytes) -> bytes` and `decode`, applied to every value that users give: inputs,
            results, errors, signals, states, tickets, reasons. Names, ids and attributes stay readable.
        api_key: for a remote API.
    """
    chosen = settings or load()
    return Client(url or chosen.store, tenant=tenant, codec=codec, settings=chosen)
