"""Starting runs: by callers of this process, by messages, and as children of other runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.engine.ids import check_run_id, child_run_id, input_digest
from aob.engine.partitions import NotOwner
from aob.engine.patience import patiently
from aob.errors import AobError, NoWorker, RunExists
from aob.kernel import events as ev, flags
from aob.kernel.failures import Failure, capture
from aob.kernel.limits import tighter
from aob.kernel.machine import Machine, Program
from aob.kernel.states import TERMINAL_STATES
from aob.kernel.steps import Step
from aob.stores.rows import RunRow
from aob.workflow.definitions import ChildPlan, Workflow

if TYPE_CHECKING:
    from aob.engine.host import Host


class StartRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything about a start; also the body of a `start` message.

    Args:
        timeout: seconds; None: the workflow's own.
        start_at: microseconds since 1970, or None: now.
        signal: (name, payload, id) delivered with the start.
        child_of: (the run that waits for it or None, the step that starts it, how deep it is below the first).
        named: who asks knows the workflow by name alone; the owner adds what its definition says.
    """

    workflow: str
    input: Raw
    run_id: str
    tenant: str
    attributes: dict[str, str] = {}
    timeout: float | None = None
    limits: dict[str, float] = {}
    start_at: int | None = None
    fidelity: str = "fast"
    signal: tuple[str, Raw, str | None] | None = None
    overrides: dict[str, Raw] = {}
    forked_from: str | None = None
    named: bool = False
    child_of: tuple[str | None, str, int] | None = None


class ChildEnded(msgspec.Struct):
    """Body of a `child_ended` message, to the parent."""

    child: str


class Again(msgspec.Struct):
    """Body of an `again` message, to a child that had ended at `since`, when its parent was retried."""

    since: int


class Signal(msgspec.Struct):
    """Body of a `signal` message."""

    name: str
    payload: Raw
    id: str | None = None


class Withdraw(msgspec.Struct):
    """Body of a `withdraw` message: nobody waits for this ticket any more."""

    ticket: str


class LetGo(msgspec.Struct):
    """Body of a `let_go` message: a run ended without its code, and what it had open must end, too."""


class Reason(msgspec.Struct):
    """Body of a `cancel`, `terminate`, `pause` message."""

    reason: str = ""


def row_of(request: StartRequest, now_us: int, status: str, partition: int) -> RunRow:
    """The summary of a run that begins."""
    return RunRow(
        partition=partition,
        tenant=request.tenant,
        run_id=request.run_id,
        workflow=request.workflow,
        status=status,
        created=now_us,
        updated=now_us,
        input_hash=input_digest(request.workflow, bytes(request.input)),
        attributes=request.attributes,
    )


def same_start(existing: RunRow, request: RunRow) -> bool:
    """Whether a start means the run that exists."""
    return existing.workflow == request.workflow and existing.input_hash == request.input_hash


def exists_error(existing: RunRow) -> RunExists:
    """Why the id cannot be used."""
    return RunExists(
        f"a run {existing.run_id!r} exists with another workflow or input ({existing.workflow}, {existing.status}): "
        "choose another run_id, or start it with the same workflow and input to get that run",
        run_id=existing.run_id,
    )


def _in_memory(run: ActiveRun) -> ActiveRun | RunRow:
    return run.row if run.machine is None else run


def exist_error(others: list[RunRow]) -> RunExists:
    """Why a commit of many starts was refused."""
    names = ", ".join(r.run_id for r in others[:20]) + (" …" if len(others) > 20 else "")
    return RunExists(f"{len(others)} of these runs exist with another workflow or input: {names}; nothing was started")


class Starts:
    """Makes runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._met: dict[int, RunRow] = {}

    # --- by callers -------------------------------------------------------------------------------

    def begin(self, request: StartRequest, partition: int | None = None) -> ActiveRun:
        """Put a start into the next commit; of a run whose code is not served, the message that starts it when it is.
        After the commit, `met` tells whether the run is new.

        Args:
            partition: where the run is to live, if not where its id belongs.

        Raises:
            NotOwner: another process owns that partition.
        """
        host = self._host
        if partition is None:
            partition = host.pins.place(request.workflow, request.tenant, request.run_id)
        host.refuse_strange(partition)
        run = ActiveRun(row_of(request, host.clock.now_us(), "running", partition), self._machine(request.workflow))
        if run.machine is None:
            run.row.status, run.row.reason = "pending", host.unserved.reason(request.workflow)
            host.leave(request.tenant, request.run_id, "start", request)
        else:
            run.row.build = host.pins.build_in(request.workflow, partition)
            self._record_start(run, request)
        host.commits.group().starts[id(run)] = run
        return run

    async def start(self, request: StartRequest, partition: int | None = None) -> ActiveRun | RunRow:
        """Start a run; durable when it returns. The row of the run that has the id already, if there is one, or of one
        whose code is not served.

        Raises:
            RunExists: it has another workflow or input.
            NotOwner: another process owns its partition.
        """
        run = self.begin(request, partition)
        await self._host.commits.ack()
        existing = self._met.pop(id(run), None)
        if existing is None:
            return _in_memory(run)
        if not same_start(existing, run.row):
            raise exists_error(existing)
        if request.signal is not None:
            name, payload, signal_id = request.signal
            await self._host.controls.signals.signal_run(request.tenant, request.run_id, name, payload, signal_id)
        return existing

    async def start_many(self, requests: list[StartRequest]) -> list[ActiveRun | RunRow]:
        """Start up to 1,000 runs in one commit, all or none; those that exist with the same input are taken as they
        are.

        Raises:
            RunExists: some ids are taken by other runs; their names are in the message, nothing was started.
        """
        host = self._host
        skip: dict[str, RunRow] = {}
        while True:
            for request in requests:  # before the first of them begins: later nothing can be undone
                host.pins.place(request.workflow, request.tenant, request.run_id)
            group = host.commits.cut(atomic=True)
            runs = [self.begin(r) for r in requests if r.run_id not in skip]
            done = host.commits.ack()
            host.commits.cut(atomic=False)
            assert group is not None
            await done
            met = {run.run_id: (run, row) for run in runs if (row := self._met.pop(id(run), None)) is not None}
            if not met:
                begun = {run.run_id: _in_memory(run) for run in runs}
                return [skip.get(r.run_id) or begun[r.run_id] for r in requests]
            others = [row for run, row in met.values() if not same_start(row, run.row)]
            if others:
                raise exist_error(others)
            skip |= {name: row for name, (_, row) in met.items()}

    def conflict(self, run: ActiveRun, existing: RunRow) -> None:
        """A start met a run that has its id."""
        run.ended = True
        self._met[id(run)] = existing
        run.wake_all()
        parent = self._host.residents.by_id.get((run.tenant, run.row.parent)) if run.row.parent is not None else None
        if parent is not None:
            del self._met[id(run)]
            self._look(parent, lambda: self._child_exists(parent, run, existing))

    def met(self, run: ActiveRun) -> RunRow | None:
        """The run that a start met, if it met one."""
        return self._met.pop(id(run), None)

    # --- by messages ------------------------------------------------------------------------------

    def begin_pending(self, row: RunRow, request: StartRequest) -> ActiveRun:
        """Start a run whose row another process has put into the store."""
        program = self._host.programs.get(request.workflow)
        row.status, row.reason = "pending" if program is None else "running", None
        row.build = self._host.pins.build_in(request.workflow, row.partition)
        if request.named and program is not None:
            defined = start_request(program, bytes(request.input), request.run_id, request.tenant, request.attributes)
            defined.start_at, defined.signal = request.start_at, request.signal
            defined.timeout = defined.timeout if request.timeout is None else request.timeout
            request = defined
        run = ActiveRun(row, self._machine(request.workflow))
        self._record_start(run, request)
        self._host.commits.group().summaries[id(run)] = run
        return run

    def _record_start(self, run: ActiveRun, request: StartRequest) -> None:
        host = self._host
        parent, step, depth = request.child_of or (None, None, 0)
        now = host.clock.now_us()
        begins = max(request.start_at or now, now)
        limits = request.limits
        timeouts = [t for t in (request.timeout, limits.get("wall_time")) if t is not None]
        event = ev.RunStarted(
            now,
            request.workflow,
            request.input,
            request.tenant,
            request.run_id,
            host.process.new_id(8),
            host.process.seed(),
            flags.CURRENT,
            begins + round(min(timeouts) * 1e6) if timeouts else None,
            request.attributes,
            parent,
            step,
            depth,
            limits,
            request.fidelity,
            request.forked_from,
            request.start_at,
            request.overrides,
        )
        run.row.parent = run.row.parent or event.parent
        host.commits.add(run, event)
        if request.signal is not None:
            name, payload, signal_id = request.signal
            host.controls.signals.record(run, name, payload, signal_id)

    def _machine(self, workflow: str) -> Machine | None:
        program = self._host.programs.get(workflow)
        return None if program is None else Machine(program)

    # --- children ---------------------------------------------------------------------------------

    def child(self, run: ActiveRun, step: Step) -> None:
        """Start a child run, or find the one that was started before a restart."""
        host = self._host
        plan: ChildPlan = step.plan
        program: Workflow[..., object] = plan.workflow
        if program.name not in host.programs:
            host.programs[program.name] = program
            host.residents.now_served(program.name)
            host.unserved.now_served(program.name)
        assert run.machine is not None
        started = run.machine.started
        child_id = plan.run_id or child_run_id(run.run_id, program.name, int(step.id.rpartition("#")[2]))
        if step.scheduled:
            self._look(run, lambda: self._find_child(run, step, child_id))
            return
        step.scheduled = 1
        try:
            if plan.run_id is not None:
                check_run_id(plan.run_id)
        except AobError as e:
            host.record(run, ev.StepFailed(0, step.id, step.check, capture(e)))
            return
        host.record(run, ev.StepScheduled(0, step.id, step.check, "child", Raw(step.input), child_id))
        self._begin_child(run, step, child_id, started, plan)

    def _begin_child(self, run: ActiveRun, step: Step, child_id: str, started: ev.RunStarted, plan: ChildPlan) -> None:
        host = self._host
        request = start_request(plan.workflow, step.input, child_id, run.tenant, {})
        assert run.machine is not None
        request.limits = tighter(request.limits, left_of(run.machine))
        request.child_of = (None, step.id, 0) if plan.detached else (started.run_id, step.id, started.depth + 1)
        partition = host.pins.beside(run.row, request.workflow, child_id, plan.detached)
        here = partition == run.row.partition or host.owns(partition)
        row = row_of(request, host.clock.now_us(), "running" if here else "pending", partition)
        row.build, row.parent = host.pins.build_in(request.workflow, partition), run.run_id
        child = ActiveRun(row, self._machine(request.workflow) if here else None)
        if here:
            self._record_start(child, request)
        else:
            host.leave(run.tenant, child_id, "start", request)
        host.commits.group().starts[id(child)] = child
        if plan.detached:
            host.commits.group().after.append(lambda: self._begun(run, step, child))

    def _begun(self, run: ActiveRun, step: Step, child: ActiveRun) -> None:
        """A detached child's start is durable, unless its id was taken."""
        if not child.ended and not run.ended and not step.done():
            handle = Raw(msgspec.json.encode(child.run_id))
            self._host.record(run, ev.StepCompleted(0, step.id, step.check, handle))

    def _look(self, parent: ActiveRun, look: Callable[[], Awaitable[None]]) -> None:
        """See what has become of a child. Until that is known its parent is at work: who crashes meanwhile must leave
        it to be looked after."""
        parent.busy += 1
        self._host.spawn(self._looking(parent, look))

    async def _looking(self, parent: ActiveRun, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await patiently(self._host, look)
        finally:
            parent.busy -= 1
            self._host.dispatch.no_longer_busy(parent)

    async def _child_exists(self, parent: ActiveRun, child: ActiveRun, existing: RunRow) -> None:
        """A child's id was taken: by itself before a crash, which is fine, or by another run."""
        host, machine = self._host, parent.machine
        if machine is None or parent.gone or parent.ended:
            return
        for step in list(machine.open.values()):
            if step.kind == "child" and step.scheduled:
                plan: ChildPlan = step.plan
                name = plan.run_id or child_run_id(parent.run_id, plan.workflow.name, int(step.id.rpartition("#")[2]))
                if name == child.run_id:
                    ours = plan.detached or existing.parent == parent.run_id
                    if ours and same_start(existing, child.row):
                        await self._find_child(parent, step, name)
                    else:
                        host.record(parent, ev.StepFailed(0, step.id, step.check, capture(exists_error(existing))))

    async def _find_child(self, run: ActiveRun, step: Step, child_id: str) -> None:
        """After a restart: the child may have ended, be on its way, or never have been started."""
        host = self._host
        row = await host.store.get_run(run.tenant, child_id)
        if run.ended or run.gone or step.done() or host.failed is not None:
            return
        plan: ChildPlan = step.plan
        if row is None:
            assert run.machine is not None
            self._begin_child(run, step, child_id, run.machine.started, plan)
        elif plan.detached:
            host.record(run, ev.StepCompleted(0, step.id, step.check, Raw(msgspec.json.encode(child_id))))
        elif row.status in TERMINAL_STATES:
            if await self._begins_again(step, row):
                return
            terminal = await host.residents.terminal_event(row)
            if terminal is not None and not (step.done() or run.ended or run.gone):
                self._deliver(run, step, terminal, row)
        else:
            with suppress(NotOwner, NoWorker):  # it tells of its end where it is
                await host.residents.get(run.tenant, child_id)

    async def _begins_again(self, step: Step, row: RunRow) -> bool:
        """Whether a child that ended before its parent was retried goes on, too."""
        if not _is_asked_again(step, row):
            return False
        try:
            again = await self._host.controls.retries.open_child_again(row, step.due)
        except NotOwner:
            self._host.leave(row.tenant, row.run_id, "again", Again(step.due))
            again = True
        step.due = 0
        return again

    async def again(self, tenant: str, run_id: str, since: int) -> None:
        """The parent of a child that has ended was retried in another partition: the child goes on, or its end is told
        once more."""
        row = await self._host.store.get_run(tenant, run_id)
        if row is None or row.parent is None or row.status not in TERMINAL_STATES:
            return
        if (row.ended or 0) > since or not await self._host.controls.retries.open_child_again(row, since):
            self._host.leave(tenant, row.parent, "child_ended", ChildEnded(run_id))

    def tell_parent(self, child: ActiveRun, event: ev.Event) -> None:
        """A child's end goes into the same commit as its parent's step, when the parent is in memory."""
        machine = child.machine
        if child.row.parent is None or (machine is not None and machine.seq and machine.started.parent is None):
            return
        parent = self._host.residents.by_id.get((child.tenant, child.row.parent))
        if parent is None:
            self._host.leave(child.tenant, child.row.parent, "child_ended", ChildEnded(child.run_id))
            return
        step = self._step_of(parent, child.run_id)
        if step is not None:
            self._deliver(parent, step, event, child.row)

    async def child_ended(self, tenant: str, parent_id: str, run_id: str) -> None:
        """A child ended while its parent was not in memory."""
        host = self._host
        row = await host.store.get_run(tenant, run_id)
        terminal = await host.residents.terminal_event(row) if row is not None else None
        parent = await host.residents.at_hand(tenant, parent_id)
        step = self._step_of(parent, run_id)
        if row is not None and step is not None and terminal is not None:
            if _is_asked_again(step, row):
                return  # that was before the parent was retried, and the child is about to go on
            self._deliver(parent, step, terminal, row)
        elif parent.machine is None and parent.row.status == "waiting":
            # its code is not served here: who serves it next must look at it
            parent.row.status, parent.row.due = "running", None
            host.commits.group().summaries[id(parent)] = parent

    def _step_of(self, parent: ActiveRun, child: str) -> Step | None:
        if parent.machine is None or parent.ended:
            return None
        for step in parent.machine.open.values():
            if step.kind == "child" and not step.done():
                plan: ChildPlan = step.plan
                k = int(step.id.rpartition("#")[2])
                if not plan.detached and (plan.run_id or child_run_id(parent.run_id, plan.workflow.name, k)) == child:
                    return step
        return None

    def _deliver(self, parent: ActiveRun, step: Step, event: ev.Event, row: RunRow) -> None:
        if step.live == "delivered":
            return
        step.live = "delivered"
        parent.last_at = max(parent.last_at, row.ended or 0)  # whatever clocks say, this comes after that
        if isinstance(event, ev.RunCompleted):
            self._host.record(parent, ev.StepCompleted(0, step.id, step.check, event.result, used=event.used or None))
            return
        reason = row.reason and self._host.payloads.open_text(row.reason)
        failure: Failure = self._host.dispatch.child_failure(row.run_id, event, reason)
        used = getattr(event, "used", None) or None
        self._host.record(parent, ev.StepFailed(0, step.id, step.check, failure, used=used))

    def cancel_child(self, parent: ActiveRun, step: Step) -> None:
        """The parent no longer waits for this child, or ends with the next commit."""
        plan: ChildPlan = step.plan
        if plan.detached:
            return
        child_id = plan.run_id or child_run_id(parent.run_id, plan.workflow.name, int(step.id.rpartition("#")[2]))
        self.cancel_orphan(parent, child_id)

    def cancel_orphan(self, parent: ActiveRun, child_id: str) -> None:
        """Cancel a child with the next commit."""
        reason = f"its parent {parent.run_id} ended or cancelled it"
        self._host.leave(parent.tenant, child_id, "cancel", Reason(reason))


def _is_asked_again(step: Step, row: RunRow) -> bool:
    """Whether a child ended, and not well, before its parent was retried, and has yet to be asked to go on."""
    return step.due > 0 and row.status != "completed" and (row.ended or 0) <= step.due


def left_of(machine: Machine) -> dict[str, float]:
    """What a run's limits leave for a child."""
    spent = {"steps": machine.spending.steps, "children": machine.spending.children, "depth": 1}
    return {k: max(v - spent.get(k, 0), 0) for k, v in machine.started.limits.items() if k != "wall_time"}


def start_request(program: Program, input: bytes, run_id: str, tenant: str, attributes: dict[str, str]) -> StartRequest:
    """A start with what the workflow's definition says."""
    timeout = getattr(program, "timeout", None)
    limits = getattr(program, "limits", None)
    return StartRequest(
        workflow=program.name,
        input=Raw(input),
        run_id=run_id,
        tenant=tenant,
        attributes=attributes,
        timeout=timeout,
        limits=limits.given() if limits is not None else {},
        fidelity=getattr(program, "fidelity", "fast"),
    )
