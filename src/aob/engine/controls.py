"""What may be asked of a run: signals, queries, updates, cancel, terminate, pause, resume, retry, fork, decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.engine.history import kept
from aob.engine.ids import ticket_id
from aob.engine.starts import Withdraw, exists_error
from aob.errors import (
    AlreadyCompensated,
    NotFinished,
    NoWorker,
    RunFinished,
    StepNotFound,
    TicketClosed,
    TicketNotFound,
)
from aob.kernel import events as ev
from aob.kernel.codec import codec_for
from aob.kernel.failures import restore
from aob.kernel.machine import Machine
from aob.kernel.states import TERMINAL_STATES
from aob.kernel.steps import Step
from aob.stores.rows import RunRow, TicketRow

if TYPE_CHECKING:
    from aob.engine.host import Host


_Arguments = tuple[list[Raw], dict[str, Raw]]
_TIMER_ROUNDING = 2  # microseconds: a timer's time went through a float


class Decision(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A person's answer to a ticket, as it is recorded; `data` only where it was edited."""

    approved: bool
    by: str
    reason: str = ""
    data: Raw = ev.NULL


class ForkRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a fork changes.

    Args:
        at: step id before whose end the fork leaves its origin; None with `input`, or at the first override.
        overrides: results by step id.
        input: another input: then nothing is shared.
    """

    run_id: str | None = None
    at: str | None = None
    overrides: dict[str, Raw] = {}
    input: Raw = ev.NULL


class Controls:
    """Carried out by the owner. Async ones load the run; durable when they return."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._updates: dict[tuple[str, str, str], list[asyncio.Future[ev.UpdateCompleted]]] = {}
        self._deciding: set[str] = set()
        self._changing: set[tuple[str, str]] = set()

    # --- signals ----------------------------------------------------------------------------------

    async def _run(self, tenant: str, run_id: str) -> ActiveRun:
        """A run, once the messages to it that were taken have had their effect.

        Raises:
            RunNotFound: there is none.
        """
        await self._host.inbox.settled(tenant, run_id)
        return await self._host.residents.get(tenant, run_id)

    async def load_seen(self, run: ActiveRun) -> None:
        """Know which command ids the run has counted already."""
        if run.seen is None:
            seen = await self._host.store.seen(run.row.key) if run.row.key else set[str]()
            run.seen = run.seen if run.seen is not None else seen

    def signal(self, run: ActiveRun, name: str, payload: Raw, id: str | None) -> ev.SignalReceived | None:
        """Put a signal into the next commit; None: it counted before. With an `id`, `load_seen` comes first.

        Raises:
            RunFinished: the run has ended.
        """
        if run.ended:
            raise self._ended(run)
        return self.record_signal(run, name, payload, id)

    def _ended(self, run: ActiveRun) -> RunFinished:
        return RunFinished(
            f"run {run.run_id!r} has ended ({run.row.status}), so it takes no signals", run_id=run.run_id
        )

    def record_signal(self, run: ActiveRun, name: str, payload: Raw, id: str | None) -> ev.SignalReceived | None:
        """A signal of a run that is open."""
        if not self._counts(run, id):
            return None
        event = ev.SignalReceived(0, name, payload, id)
        self._host.record(run, event)
        return event

    def _counts(self, run: ActiveRun, id: str | None) -> bool:
        """Whether a command with this id counts; from now on no other does."""
        if id is None:
            return True
        if run.seen is None:
            run.seen = set()
        if id in run.seen:
            return False
        run.seen.add(id)
        self._host.commits.group().seen.append((run, id))
        return True

    async def signal_run(self, tenant: str, run_id: str, name: str, payload: Raw, id: str | None) -> None:
        """Signal a run.

        Raises:
            RunNotFound, RunFinished.
        """
        run = await self._run(tenant, run_id)
        if id is not None:
            await self.load_seen(run)
        event = self.signal(run, name, payload, id)
        await self._host.commits.ack()
        if event is not None and not event.at:
            raise self._ended(run)

    # --- queries and updates ----------------------------------------------------------------------

    async def query(self, tenant: str, run_id: str, name: str, payload: Raw) -> bytes:
        """The encoded answer of a query; on an ended run by replaying it."""
        run = await self._host.residents.get(tenant, run_id)
        machine = run.machine
        if machine is None or machine.closing:
            machine = Machine(self._program(run.row))
            await self._host.residents.replay(machine, run.row)
            try:
                return self._answer(machine, name, payload)
            finally:
                machine.close()
        return self._answer(machine, name, payload)

    def _program(self, row: RunRow) -> Any:
        program = self._host.programs.get(row.workflow)
        if program is None:
            raise NoWorker(
                f"no worker serves workflow {row.workflow!r}, whose code is needed to answer: serve it",
                run_id=row.run_id,
            )
        return program

    def _answer(self, machine: Machine, name: str, payload: Raw) -> bytes:
        if machine.mismatch is not None:
            raise machine.mismatch
        args, kwargs = msgspec.json.decode(payload, type=_Arguments)
        return codec_for(Any, f"query {name}").encode_checked(machine.query(name, args, kwargs))[0]

    async def update(self, tenant: str, run_id: str, name: str, payload: Raw, id: str | None) -> ev.UpdateCompleted:
        """Validate an update, record it, and wait for its answer.

        Raises:
            RunFinished, QueryNotFound, NoWorker, and what the validator raises.
        """
        run = await self._run(tenant, run_id)
        step, repeated = await self.record_update(run, name, payload, id)
        return await self.update_answer(run, step, repeated)

    async def record_update(self, run: ActiveRun, name: str, payload: Raw, id: str | None) -> tuple[str, bool]:
        """Validate an update and put it into the next commit; its step, and whether it was there before."""
        host = self._host
        await self.load_seen(run)
        step = f"update/{name}#{id or host.process.new_id(12)}"
        if id is not None and run.seen is not None and step in run.seen:
            return step, True
        if run.ended:
            raise RunFinished(
                f"run {run.run_id!r} has ended ({run.row.status}), so it takes no updates", run_id=run.run_id
            )
        machine = run.machine
        if machine is None or machine.mismatch is not None:
            self._program(run.row)
            raise NoWorker(f"run {run.run_id!r} is parked, so it takes no updates", run_id=run.run_id)
        while machine.seq == 0 and not run.ended:
            await run.next_commit()
        bound = machine.check_update(name, *msgspec.json.decode(payload, type=_Arguments))
        self._counts(run, step if id is not None else None)
        host.record(run, ev.SignalReceived(0, name, bound, id, update=step))
        return step, False

    async def update_answer(self, run: ActiveRun, step: str, repeated: bool) -> ev.UpdateCompleted:
        """Wait for an update's answer."""
        return await (self._earlier_answer(run, step) if repeated else self._await_answer(run, step))

    async def _earlier_answer(self, run: ActiveRun, step: str) -> ev.UpdateCompleted:
        async for event, _ in self._host.residents.history.read(run.row):
            if isinstance(event, ev.UpdateCompleted) and event.step == step:
                return event
        return await self._await_answer(run, step)

    async def _await_answer(self, run: ActiveRun, step: str) -> ev.UpdateCompleted:
        future: asyncio.Future[ev.UpdateCompleted] = asyncio.get_running_loop().create_future()
        name = (run.tenant, run.run_id, step)
        self._updates.setdefault(name, []).append(future)
        while not future.done():
            await asyncio.wait([future, run.next_commit()], return_when=asyncio.FIRST_COMPLETED)
            if run.terminal is not None and not future.done():
                self._updates.pop(name, None)
                raise RunFinished(f"run {run.run_id!r} ended before it answered the update", run_id=run.run_id)
            if self._host.failed is not None:
                raise self._host.failed
        return future.result()

    def update_completed(self, run: ActiveRun, event: ev.UpdateCompleted) -> None:
        """An answer is durable."""
        for future in self._updates.pop((run.tenant, run.run_id, event.step), []):
            if not future.done():
                future.set_result(event)

    # --- ends and pauses --------------------------------------------------------------------------

    async def cancel(self, tenant: str, run_id: str, reason: str) -> None:
        """Ask a run to stop; nothing happens to one that has ended or was asked before."""
        run = await self._run(tenant, run_id)
        self.record_cancel(run, reason)
        await self._host.commits.ack()

    def record_cancel(self, run: ActiveRun, reason: str) -> None:
        """Put a cancel into the next commit."""
        if run.ended:
            return
        if run.machine is not None and run.machine.cancelling:
            return
        self._host.record(run, ev.CancelRequested(0, reason))
        if run.row.status == "paused":
            run.row.status = "running"
            self._host.commits.group().summaries[id(run)] = run
        elif run.row.status == "pending":
            self._host.record(run, ev.RunCancelled(0, reason))

    async def terminate(self, tenant: str, run_id: str, reason: str) -> None:
        """End a run at once, without running its code.

        Raises:
            RunFinished: it has ended otherwise.
        """
        run = await self._run(tenant, run_id)
        self.record_terminate(run, reason)
        await self._host.commits.ack()

    def record_terminate(self, run: ActiveRun, reason: str) -> None:
        """Put a run's end into the next commit."""
        if not run.ended:
            machine = run.machine
            self._host.commits.overtake(run)
            self._host.record(run, ev.RunTerminated(0, reason, machine.used() if machine and machine.seq else {}))
        elif run.row.status != "terminated":
            raise RunFinished(f"run {run.run_id!r} has ended already ({run.row.status})", run_id=run.run_id)

    async def pause(self, tenant: str, run_id: str, reason: str = "") -> None:
        """Dispatch nothing new; attempts in flight finish.

        Raises:
            RunFinished: it has ended.
        """
        run = await self._run(tenant, run_id)
        self.record_pause(run, reason)
        await self._host.commits.ack()

    def record_pause(self, run: ActiveRun, reason: str) -> None:
        """Put a pause into the next commit."""
        self._refuse_ended(run, "paused")
        if run.row.status != "paused":
            self._host.record(run, ev.Paused(0, reason))

    async def resume(self, tenant: str, run_id: str) -> None:
        """Go on after a pause; a parked run is tried again.

        Raises:
            RunFinished: it has ended.
        """
        await self.resume_run(await self._run(tenant, run_id))

    async def resume_run(self, run: ActiveRun) -> None:
        """`resume`, for a run in memory."""
        self._refuse_ended(run, "resumed")
        if run.parked or run.row.status == "parked":
            await self._unpark(run)
        elif run.row.status == "paused":
            self._host.record(run, ev.Resumed(0))
            await self._host.commits.ack()

    def _refuse_ended(self, run: ActiveRun, what: str) -> None:
        if run.ended:
            raise RunFinished(
                f"run {run.run_id!r} has ended ({run.row.status}), so it cannot be {what}", run_id=run.run_id
            )

    async def _unpark(self, run: ActiveRun) -> None:
        residents = self._host.residents
        residents.evict(run)
        run.row.deaths, run.row.reason = 0, None
        await residents.load(run.row)
        await self._host.commits.ack()

    # --- retry ------------------------------------------------------------------------------------

    async def retry(self, tenant: str, run_id: str) -> None:
        """Open a failed or timed-out run again, from the step failure that led to its end.

        Raises:
            NotFinished, RunFinished, AlreadyCompensated.
        """
        host = self._host
        run = await host.residents.get(tenant, run_id)
        row = run.row
        if row.status == "parked":
            await self._unpark(run)
            return
        if not run.ended:
            raise NotFinished(
                f"run {run_id!r} is {row.status}; only a failed or timed-out run can be retried", run_id=run_id
            )
        if row.status not in ("failed", "timed_out"):
            raise RunFinished(
                f"run {run_id!r} is {row.status}; only a failed or timed-out run can be retried", run_id=run_id
            )
        with self._alone(run):
            await self._reopen(run)

    async def open_child_again(self, row: RunRow) -> bool:
        """Retry a child because its parent is retried; whether that could be done."""
        run = await self._host.residents.get(row.tenant, row.run_id)
        if not run.ended:
            return True
        if row.status not in ("failed", "timed_out", "cancelled"):
            return False
        try:
            with self._alone(run):
                await self._reopen(run)
        except AlreadyCompensated:
            return False
        return True

    async def _reopen(self, run: ActiveRun) -> None:
        host, row = self._host, run.row
        await host.commits.ack()
        events = kept([e async for e in host.residents.history.read(row)])
        end, at = next((e, s) for e, s in reversed(events) if e.KIND in ev.TERMINAL)
        if getattr(end, "compensated", False):
            raise AlreadyCompensated(
                f"run {run.run_id!r} undid its steps when it failed, so it cannot be retried: fork it instead",
                run_id=run.run_id,
            )
        host.residents.drop(run)
        fresh = ActiveRun(msgspec.structs.replace(row), None)
        fresh.seq, fresh.chain, fresh.last_at = await host.residents.history.tail(row)
        keep = _keep(events, end, at)
        fresh.row.checkpoint = _checkpoint_by(events, keep)
        host.residents.reopened.add((run.tenant, run.run_id))
        host.record(fresh, ev.RunReopened(0, keep, "retry"))
        await host.commits.ack()
        await host.residents.load(fresh.row)

    @contextmanager
    def _alone(self, run: ActiveRun) -> Generator[None]:
        """One call at a time that opens or deletes an ended run.

        Raises:
            NotFinished: another one is under way.
        """
        name = (run.tenant, run.run_id)
        if name in self._changing:
            raise NotFinished(f"run {run.run_id!r} is being opened or deleted by another call", run_id=run.run_id)
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.discard(name)

    # --- fork -------------------------------------------------------------------------------------

    async def fork(self, tenant: str, run_id: str, request: ForkRequest) -> str:
        """A new run that shares this one's history up to a step; returns its id.

        Raises:
            StepNotFound: the run has not finished a step of this id.
            RunExists: the new id is taken.
        """
        host = self._host
        origin = await host.residents.get(tenant, run_id)
        await host.commits.ack()
        row = origin.row
        new_id = request.run_id or f"{run_id[:180]}.fork-{host.process.new_id(8)}"
        events = [e async for e in host.residents.history.read(row)]
        started = events[0][0]
        assert isinstance(started, ev.RunStarted)
        if request.input != ev.NULL:
            await self._restart(started, new_id, request)
            return new_id
        cut = _cut(events, request, run_id)
        fork = ActiveRun(
            RunRow(
                tenant=tenant,
                run_id=new_id,
                workflow=row.workflow,
                status="running",
                created=host.clock.now_us(),
                updated=host.clock.now_us(),
                input_hash=row.input_hash,
                attributes=row.attributes,
                origin=row.key,
                origin_seq=cut,
                checkpoint=_checkpoint_by(events, cut),
            ),
            None,
            cut,
        )
        stored = await host.store.events(row.key, cut - 1, 1, cut)
        fork.chain, fork.last_at = stored[0].chain, next(e for e, s in events if s == cut).at
        own = ev.Fork(new_id, host.process.new_id(8), host.process.seed(), request.overrides, row.attributes)
        group = host.commits.group()
        host.commits.add(fork, ev.RunReopened(0, cut, f"fork of {run_id}", own))
        group.starts[id(fork)] = fork
        await host.commits.ack()
        existing = host.starts.met(fork)
        if existing is not None:
            raise exists_error(existing)
        await host.residents.load(fork.row)
        return new_id

    async def _restart(self, started: ev.RunStarted, new_id: str, request: ForkRequest) -> None:
        await self._host.starts.again(started, new_id, request.input, request.overrides)

    # --- tickets ----------------------------------------------------------------------------------

    async def decide(self, tenant: str, ticket: str, decision: Decision) -> TicketRow:
        """Answer a ticket; once.

        Raises:
            TicketNotFound, TicketClosed.
        """
        host = self._host
        row = await host.store.get_ticket(tenant, ticket)
        if row is None:
            raise TicketNotFound(f"no ticket {ticket!r} of tenant {tenant!r}")
        run = await host.residents.get(tenant, row.run_id)
        check = await self._check_of(run, row.step)
        if row.status != "open" or ticket in self._deciding or run.ended or check is None:
            raise _closed(row, row.status if row.status != "open" else "decided or withdrawn")
        if row.deadline is not None and row.deadline <= max(host.clock.now_us(), run.last_at) + _TIMER_ROUNDING:
            raise _closed(row, "expired")
        self._check_edited(run, row, decision)
        step = run.machine.open.get(row.step) if run.machine is not None else None
        self._deciding.add(ticket)
        try:
            row.status = "approved" if decision.approved else "rejected"
            row.by, row.reason, row.closed = decision.by, decision.reason, host.clock.now_us()
            result = Raw(msgspec.json.encode(decision))
            host.record(run, ev.StepCompleted(0, row.step, check, result, by=decision.by))
            host.commits.group().tickets.append(row)
            await host.commits.ack()
        finally:
            self._deciding.discard(ticket)
        if step is not None and step.cancelled():  # the run had gone on when the decision came
            row.status, row.by, row.reason = "open", None, None
            self._close_ticket(row, host.clock.now_us())
            raise _closed(row, row.status)
        return row

    def _check_edited(self, run: ActiveRun, row: TicketRow, decision: Decision) -> None:
        """Edited data must fit the type that the approval asks for."""
        if decision.data == ev.NULL:
            return
        step = run.machine.open.get(row.step) if run.machine is not None else None
        if step is None:
            self._program(run.row)
            raise NoWorker(f"run {run.run_id!r} is parked, so its type of edited data is not known", run_id=run.run_id)
        step.plan.codec.decode(decision.data)

    async def _check_of(self, run: ActiveRun, step: str) -> int | None:
        """The input checksum of a ticket's step, while it is open."""
        if run.machine is not None and run.machine.mismatch is None:
            found = run.machine.open.get(step)
            return None if found is None else found.check
        check = None
        async for event, _ in self._host.residents.history.read(run.row):
            if isinstance(event, ev.StepScheduled) and event.step == step:
                check = event.check
            elif isinstance(event, ev.StepCompleted | ev.StepFailed) and event.step == step:
                check = None
        return check

    def withdraw(self, run: ActiveRun, step: Step) -> None:
        """The run no longer waits for this ticket."""
        if isinstance(step.live, TicketRow):
            self._close_ticket(step.live, self._host.clock.now_us())
        else:
            self._send_withdraw(run, ticket_id(run.run_id, step.id))

    def _send_withdraw(self, run: ActiveRun, ticket: str) -> None:
        self._host.leave(run.tenant, run.run_id, "withdraw", Withdraw(ticket))

    async def withdraw_ticket(self, tenant: str, ticket: str) -> None:
        """Close a ticket that nobody waits for any more."""
        row = await self._host.store.get_ticket(tenant, ticket)
        if row is not None:
            self._close_ticket(row, self._host.clock.now_us())

    async def let_go(self, tenant: str, run_id: str) -> None:
        """Cancel the children and close the tickets of a run that ended without its code."""
        run = await self._host.residents.get(tenant, run_id)
        open: dict[str, ev.StepScheduled] = {}
        async for event, _ in self._host.residents.history.read(run.row):
            if isinstance(event, ev.StepScheduled):
                open[event.step] = event
            elif isinstance(event, ev.StepCompleted | ev.StepFailed):
                open.pop(event.step, None)
        for event in open.values():
            if event.type == "child" and event.target is not None:
                self._host.starts.cancel_orphan(run, event.target)
            elif event.type == "ticket" and event.target is not None:
                self._send_withdraw(run, event.target)

    def _close_ticket(self, ticket: TicketRow, now: int) -> None:
        if ticket.status == "open" and ticket.id not in self._deciding:
            ticket.status = "expired" if ticket.deadline is not None and ticket.deadline <= now else "withdrawn"
            ticket.closed = now
            self._host.commits.group().tickets.append(ticket)

    # --- deletion ---------------------------------------------------------------------------------

    async def delete(self, tenant: str, run_id: str) -> None:
        """Delete an ended run.

        Raises:
            NotFinished: it is open.
        """
        run = await self._host.residents.get(tenant, run_id)
        if run.row.status not in TERMINAL_STATES:
            raise NotFinished(f"run {run_id!r} is {run.row.status}: cancel or terminate it first", run_id=run_id)
        with self._alone(run):
            await self._host.commits.ack()
            self._host.residents.drop(run)
            await self._host.commits.alone(lambda lease: self._host.store.delete_run(lease, run.row.key))


def answer_or_raise(answer: ev.UpdateCompleted) -> Any:
    """An update's answer as a value, or the error it raised."""
    if answer.failure is not None:
        raise restore(answer.failure)
    return msgspec.json.decode(answer.result)


def _closed(row: TicketRow, how: str) -> TicketClosed:
    by = f" by {row.by}" if row.by else ""
    return TicketClosed(f"ticket {row.id!r} is closed: {how}{by}", run_id=row.run_id)


def _keep(events: list[tuple[ev.Event, int]], end: ev.Event, at: int) -> int:
    """Up to which `seq` a retry keeps the history."""
    step = end.step if isinstance(end, ev.RunFailed) else None
    if step is not None:
        for event, seq in events:
            if isinstance(event, ev.StepFailed) and event.step == step:
                return seq - 1
    if isinstance(end, ev.RunCancelled):
        return next((seq for event, seq in reversed(events) if isinstance(event, ev.CancelRequested)), at) - 1
    if isinstance(end, ev.RunTimedOut):
        for event, seq in events:
            if isinstance(event, ev.TimerFired) and event.step.startswith("deadline#"):
                return seq - 1
    return at - 1


def _checkpoint_by(events: list[tuple[ev.Event, int]], seq: int) -> int:
    """The last checkpoint that stands not behind `seq`; 0: there is none."""
    return next((s for event, s in reversed(events) if s <= seq and isinstance(event, ev.Checkpoint)), 0)


def _cut(events: list[tuple[ev.Event, int]], request: ForkRequest, run_id: str) -> int:
    """The last `seq` that a fork shares."""
    ends = {e.step: s for e, s in kept(events) if isinstance(e, ev.StepCompleted | ev.StepFailed | ev.TimerFired)}
    wanted = [s for s in (request.at, *request.overrides) if s is not None]
    if request.at is not None and request.at not in ends:
        raise StepNotFound(
            f"run {run_id!r} has not finished a step {request.at!r}; it has: {', '.join(list(ends)[:20]) or 'none'}",
            run_id=run_id,
            step=request.at,
        )
    found = [ends[s] - 1 for s in wanted if s in ends]
    if found:
        return min(found)
    last = events[-1][1]
    terminal = [s for e, s in events if e.KIND in ev.TERMINAL]
    return terminal[-1] - 1 if terminal else last
