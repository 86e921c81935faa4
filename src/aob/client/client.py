"""`aob.connect`: one client for every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import msgspec
from msgspec import Raw

from aob.client.live import LiveStream
from aob.client.opening import open_store
from aob.client.owner import Owner
from aob.client.run import Run, annotation_of
from aob.client.views import Page, Ticket, summary_view, ticket_view
from aob.clock import Clock, SystemClock, from_datetime
from aob.engine.active import ActiveRun
from aob.engine.history import History
from aob.engine.host import Host
from aob.engine.ids import check_run_id
from aob.engine.inbox import Decide, Reason
from aob.engine.payloads import PayloadCodec, Payloads
from aob.engine.starts import StartRequest, exist_error, exists_error, row_of, same_start, start_request
from aob.engine.tickets import Decision
from aob.errors import BadInput, CallerError, LeaseLost, RunExists, RunNotFound
from aob.kernel.codec import codec_for
from aob.kernel.events import NULL
from aob.process import Process, SystemProcess
from aob.settings import Settings, load
from aob.stores.protocol import Store
from aob.stores.rows import Message, RunFilter, RunRow, TicketRow, partition_of
from aob.worker.worker import Worker
from aob.workflow.definitions import Activity, Workflow

P = ParamSpec("P")
R = TypeVar("R")
_MANY = 1_000


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
        return frozenset(
            (
                "start_many",
                "fork",
                "retry",
                "pause",
                "query",
                "update",
                "checkpoint",
                "children",
                "tickets",
                "start_at",
                "delete",
            )
        )

    # --- serving ----------------------------------------------------------------------------------

    def serve(
        self, *workflows: Workflow[..., Any], queues: Sequence[str] = (), activities: Iterable[Activity[..., Any]] = ()
    ) -> Worker:
        """Make this process a worker for these workflows inside an `async with` block; it stops gracefully at its end.

        When another process serves the store, this one stands by and takes over when that one stops or dies.

        Args:
            activities: those that are not in the workflows' own modules.

        Raises:
            DuplicateDefinition: two definitions have one name.
        """
        worker = Worker(
            self.store,
            self.clock,
            self.process,
            self.settings,
            workflows,
            tuple(activities),
            self._codec,
            tuple(queues),
        )
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
            request.start_at = _moment(start_at)
        if signal is not None:
            request.signal = _signal(signal)
        host = self.host()
        if host is not None:
            with suppress(LeaseLost):  # another process owns it now, and nothing was written here
                got = await host.starts.start(request)
                active = got if isinstance(got, ActiveRun) else None
                return Run(self, request.tenant, request.run_id, definition, active)
        await self._start_elsewhere(request)
        return Run(self, request.tenant, request.run_id, definition)

    async def _start_elsewhere(self, request: StartRequest) -> None:
        message, row = self._start_message(request, self._row(request))
        existing = await self.store.send(message, row)
        if existing is None:
            return
        if not same_start(existing, row):
            raise exists_error(existing)
        if request.signal is not None:
            name, payload, signal_id = request.signal
            run: Run[Any] = Run(self, request.tenant, request.run_id, None)
            await run.signal(name, msgspec.json.decode(payload), signal_id)

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
            args, kwargs = _arguments(workflow, value)
            request, definition = self._request(
                workflow, args, kwargs, run_ids[i] if run_ids else None, tenant, attributes
            )
            requests.append(request)
        begun: list[ActiveRun | RunRow | None] = []
        for start in range(0, len(requests), _MANY):
            begun += await self._start_some(requests[start : start + _MANY])
        return [
            Run(self, r.tenant, r.run_id, definition, run if isinstance(run, ActiveRun) else None)
            for r, run in zip(requests, begun, strict=True)
        ]

    async def _start_some(self, requests: list[StartRequest]) -> Sequence[ActiveRun | RunRow | None]:
        names = [r.run_id for r in requests]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})[:10]
            raise RunExists(f"these run_ids are given twice: {', '.join(twice)}")
        host = self.host()
        if host is not None:
            with suppress(LeaseLost):
                return await host.starts.start_many(requests)
        await self._start_some_elsewhere(requests)
        return [None] * len(requests)

    async def _start_some_elsewhere(self, requests: list[StartRequest]) -> None:
        sends = [self._start_message(r, self._row(r)) for r in requests]
        while sends:
            conflicts = await self.store.send_many(sends)
            others = [existing for row, existing in conflicts if not same_start(existing, row)]
            if others:
                raise exist_error(others)
            met = {id(row) for row, _ in conflicts}
            sends = [(message, row) for message, row in sends if id(row) not in met] if met else []

    def _row(self, request: StartRequest) -> RunRow:
        partition = partition_of(request.tenant, request.run_id, self.store.partitions)
        return row_of(request, self.clock.now_us(), "pending", partition)

    def _start_message(self, request: StartRequest, row: RunRow) -> tuple[Message, RunRow]:
        body = self.payloads.seal_message(request)
        return Message(tenant=request.tenant, run_id=request.run_id, kind="start", body=body), row

    def _request(
        self,
        workflow: Workflow[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run_id: str | None,
        tenant: str | None,
        attributes: Mapping[str, str] | None,
    ) -> tuple[StartRequest, Workflow[..., Any] | None]:
        definition = self.workflows.get(workflow) if isinstance(workflow, str) else workflow
        name = check_run_id(run_id) if run_id is not None else self.process.new_id(20)
        labels = _labels(attributes)
        if isinstance(workflow, str):
            # by name, the input is the JSON that was given: the same in every process, whether it knows the code or not
            encoded = _plain_input(*_by_name(definition, args, kwargs))
            if definition is None:
                request = StartRequest(
                    workflow=workflow, input=Raw(encoded), run_id=name, tenant=tenant or self.tenant, attributes=labels,
                    named=True,
                )  # fmt: skip
                return request, None
            definition.codec.decode_input(encoded)
        else:
            encoded = workflow.codec.encode_input(args, kwargs)
        assert definition is not None
        self.workflows.setdefault(definition.name, definition)
        return start_request(definition, encoded, name, tenant or self.tenant, labels), definition

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
            before=_key(cursor),
            limit=min(max(limit, 1), 1_000),
        )
        rows = await self.store.list_runs(where)
        shown = self.payloads.shown_text
        return Page([summary_view(r, shown) for r in rows], str(rows[-1].key) if len(rows) == where.limit else None)

    async def delete(self, run_id: str, tenant: str | None = None) -> None:
        """Delete an ended run; its id is free afterwards.

        Raises:
            RunNotFound, NotFinished.
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
            TicketNotFound, TicketClosed, BadPayload.
        """
        edited = (
            NULL if data is None else Raw(codec_for(annotation_of(data), f"ticket {ticket}").encode_checked(data)[0])
        )
        decision = Decision(approved=approved, by=by, reason=reason, data=edited)
        name = tenant or self.tenant
        known = await self.store.get_ticket(name, ticket)
        run_id = known.run_id if known is not None else ""
        got = await self.owner.ask(
            name,
            run_id,
            "decide",
            Decide(ticket, decision),
            lambda h: h.controls.tickets.decide(name, ticket, decision),
        )
        row = got if isinstance(got, TicketRow) else msgspec.json.decode(bytes(got), type=TicketRow)
        return await self._ticket(row)

    # --- for handles ------------------------------------------------------------------------------

    def final(self, tenant: str, run_id: str) -> bool:
        """Whether an end that was seen in this process still is one: a retry opens a run again."""
        host = self.host()
        return host is not None and (tenant, run_id) not in host.residents.reopened

    def active(self, tenant: str, run_id: str) -> ActiveRun | None:
        """The run in this process's memory, while it is there."""
        host = self.host()
        return None if host is None else host.residents.by_id.get((tenant, run_id))

    def next_commit(self, tenant: str, run_id: str) -> asyncio.Future[None] | None:
        """A future that is done when this process has committed something of the run; None where another process
        owns it."""
        host = self.host()
        if host is None:
            return None
        run = host.residents.by_id.get((tenant, run_id))
        if run is None and not host.owns(partition_of(tenant, run_id, self.store.partitions)):
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
            await self.store.wait_changed(at_most)
            return
        waits: list[asyncio.Future[Any]] = [commit]
        if stream is not None and stream.on:
            waits.append(stream.next())
        if self.host() is not None:
            # only where every partition is this process's does it surely commit what is waited for
            within = None if self.store.partitions == 1 else at_most
            await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)

    @contextmanager
    def live(self, tenant: str, run_id: str, on: bool) -> Generator[LiveStream]:
        """What attempts of a run of this process emit while the block lasts."""
        executors = [w.executor for w in self._workers if w.executor is not None] if on else []
        with LiveStream(self.clock, tenant, run_id, executors) as stream:
            yield stream


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


def _moment(at: datetime) -> int:
    try:
        return from_datetime(at)
    except ValueError as e:
        raise CallerError(f"start_at: {e}") from e


def _signal(given: tuple[Any, ...]) -> tuple[str, Raw, str | None]:
    name, payload, signal_id = (*given, None, None, None)[:3]
    if not isinstance(name, str) or len(given) > 3:
        raise CallerError(f"signal= is (name, payload, id), not {given!r}")
    body = codec_for(annotation_of(payload), f"signal {name}").encode_checked(payload)[0]
    return name, Raw(body), signal_id


def _labels(attributes: Mapping[str, str] | None) -> dict[str, str]:
    labels = dict(attributes or {})
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"attributes are strings, but {key!r} is {value!r}")
    return labels


def _by_name(
    definition: Workflow[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Several arguments, by the names that the definition gives them."""
    if definition is None or len(args) + len(kwargs) < 2:
        return args, kwargs
    return (), {**dict(zip(definition.codec.names, args, strict=False)), **kwargs}


def _plain_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The input of a workflow that is known by name alone: the only argument, or the named ones."""
    if len(args) > 1 or (args and kwargs):
        raise BadInput(
            "a workflow given by name takes one argument, or arguments by name: its parameters are not known here"
        )
    value = args[0] if args else kwargs or None
    return codec_for(annotation_of(value), "input").encode_checked(value)[0]


def _arguments(workflow: Workflow[..., Any] | str, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    one = isinstance(workflow, str) or len(workflow.codec.names) == 1
    if one:
        return (value,), {}
    if isinstance(value, tuple):
        return value, {}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return (), value  # pyright: ignore[reportUnknownVariableType]
    if value is None:
        return (), {}
    return (value,), {}


def _key(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdigit():
        raise CallerError(f"bad cursor {cursor!r}: use the one of the page before")
    return int(cursor)
